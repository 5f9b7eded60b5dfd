#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a backup with nothing but Python, as its README says, and extracts it to a folder.

Checks all that the format promises: one pass, regular files, the digest of each document, END.json.
Prints what is wrong and ends with 1.
"""
import hashlib
import json
import os
import sys
import tarfile
import warnings

PREFIX = "SCHILY.xattr."
OURS = PREFIX + "user.licensevault."


def digest(data):
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def main(backup, folder):
    warnings.simplefilter("error")
    whole = hashlib.blake2b(digest_size=32)
    names, end, documents = [], None, 0

    with tarfile.open(backup, "r|") as archive:
        for member in archive:
            assert end is None, f"{member.name} comes after END.json"
            assert member.isreg(), f"{member.name} is no regular file"
            assert member.mode == 0o600, f"{member.name} has mode {member.mode:o}"
            assert not member.name.startswith("/") and ".." not in member.name.split("/"), member.name
            assert member.name not in names, f"{member.name} is there twice"
            names.append(member.name)

            content = archive.extractfile(member).read()
            path = os.path.join(folder, member.name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb") as file:
                file.write(content)

            if member.name == "END.json":
                end = json.loads(content)
                continue
            attributes = {k[len(PREFIX):]: v for k, v in member.pax_headers.items() if k.startswith(PREFIX)}
            whole.update(f"{member.name}\n{len(content)}\n{digest(content)}\n".encode())
            for name in sorted(attributes):
                whole.update(f"{name}={attributes[name]}\n".encode())
            if member.name.startswith("licenses/"):
                documents += 1
                found = attributes["user.licensevault.blake2b"]
                assert found == digest(content), f"{member.name}: the digest is wrong"
                print(f"{found}  {member.name}")

    assert end, "END.json is missing"
    assert names[0] == "README.txt" and names[1] == "manifest.json", names[:2]
    assert whole.hexdigest() in json.dumps(end), "the digest in END.json is wrong"
    assert documents in end.values(), f"END.json does not count {documents} documents"


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (AssertionError, KeyError, OSError, ValueError, tarfile.TarError, Warning) as error:
        sys.exit(f"{type(error).__name__}: {error}")
