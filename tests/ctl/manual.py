# SPDX-License-Identifier: LGPL-2.1-or-later
"""Manuals as tests see them: sections, lists and examples, without roff."""

import os
import re

from world import check, equal

SOURCE = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
MADE = os.environ.get("LICENSEVAULT_MANUALS", os.path.join(SOURCE, "build-check/gcc/docs"))
PAGES = ("licensevault-backup.7", "licensevaultctl.1", "licensevaultd.8", "licensevaultd.conf.5", "org.licensevault1.5")


def source(name):
    with open(os.path.join(SOURCE, name), encoding="utf-8") as file:
        return file.read()


def path_of(page):
    """Where a page is: it was written, or made by the build."""
    written = os.path.join(SOURCE, "docs", page)
    return written if os.path.exists(written) else os.path.join(MADE, page)


def plain(roff):
    """What a reader sees of a piece of roff without macros."""
    roff = re.sub(r"\\f[BIR]|\\%|\\&", "", roff)
    for escape, text in ((r"\-", "-"), (r"\(aq", "'"), (r"\(dq", '"'), (r"\(ha", "^"), (r"\(ti", "~"), (r"\e", "\\")):
        roff = roff.replace(escape, text)
    return roff


class Section:
    """A .SH, or a .SS in it: its lists, in order, each of (name, what stands in parentheses); its examples."""

    def __init__(self, title, roff):
        self.title, self.roff, self.text = title, roff, plain(roff)
        self.examples = [plain(example) for example in re.findall(r"(?ms)^\.EX\n(.*?)^\.EE$", roff)]
        self.lists, again = [], False
        for paragraph in re.split(r"(?m)^(?=\.(?:TP|PP|SS)$)", roff):
            # An argument, whose tag is .I, is no item.
            match = re.match(r"\.TP\n(?:\.BI? |(?=\\fB))(.*)\n", paragraph)
            if match and not again:
                self.lists.append([])
            again = bool(match)
            if match:
                name, _, kind = plain(match.group(1)).partition(" (")
                self.lists[-1].append((name, kind.removesuffix(")")))


class Manual:
    def __init__(self, page):
        with open(path_of(page), encoding="utf-8") as file:
            self.roff = file.read()
        self.text = plain(self.roff)
        self.sections, self.members = {}, {}
        for part in re.split(r"(?m)^(?=\.SH )", self.roff)[1:]:
            title, _, roff = part.partition("\n")
            title = plain(title[4:])
            self.sections[title] = Section(title, re.split(r"(?m)^\.SS ", roff)[0])
            for member in re.split(r"(?m)^(?=\.SS )", roff)[1:]:
                name, _, rest = member.partition("\n")
                self.members[title, plain(name[4:])] = Section(name, rest)


def same(found, expected, what):
    """Two lists, without order, have the same in them; says what is on one side alone."""
    found, expected = sorted(found), sorted(expected)
    equal(([entry for entry in found if entry not in expected], [entry for entry in expected if entry not in found]),
          ([], []), f"{what}: what one has and the other has not")
    equal(len(found), len(expected), what)
    check(found, f"there is nothing of {what}")
