#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Stores a license, then backs up all licenses of the user to a file, with busctl.
#
#     ./backup.sh LICENSE BACKUP
#
# It ends with 0 when the backup is complete and verified, 1 when something was refused or failed, 2 when it was called
# wrongly, 3 when the service is not there or went away (try again), and 4 when it was canceled.
#
# busctl cannot pass a descriptor: gdbus (of GLib) does that one call. Each command is a connection of its own, so
# nobody is there to get a job's signals: Job.Wait tells the end, and properties how far the job is. jq reads answers.
set -u

name=org.licensevault1
root=/org/licensevault1
service=$name
folder=$(mktemp -d) || exit 1
created='' interrupted=''

# What was begun and is no backup goes.
clean_up() {
    rm -r "$folder"
    [ -z "$created" ] || rm -f "$backup"
}
trap clean_up EXIT

fail() {
    printf 'backup.sh: %s\n' "$2" >&2
    exit "$1"
}

call() {
    busctl --json=short call "$@" 2>"$folder/error"
}

is_there() {
    [ "$(call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus NameHasOwner s "$1" |
        jq '.data[0]')" = true ]
}

# A call that failed has left its message, which says what to do next. busctl does not tell the name of the error, so
# the bus is asked whether the service is (still) there.
fail_call() {
    local message
    message=$(sed 's/^Call failed: //; s/^Error: GDBus.Error:[^:]*: //' "$folder/error")
    is_there "$service" || fail 3 "The license service is not there, or went away: $message"
    fail 1 "$message"
}

[ $# = 2 ] || fail 2 "Usage: backup.sh LICENSE BACKUP"
license=$1 backup=$2
for tool in busctl gdbus jq; do
    command -v $tool >/dev/null || fail 1 "It needs $tool."
done
{ [ -f "$license" ] && [ -r "$license" ]; } || fail 1 "$license is not a file that can be read."

# Stored byte for byte, each byte an argument: that does for licenses up to some 100 KiB. An LCP license says its
# properties of itself; a license that only the app can read needs an id at least. The bus starts the service if need
# be.
mapfile -t bytes < <(od -An -v -tu1 -w1 "$license" | tr -d ' ')
answer=$(call $name $root $name.LicenseStore StoreLicense 'aya{sv}' ${#bytes[@]} "${bytes[@]}" \
    2 LicenseId s org.example.Editor Title s "Example Editor") || fail_call
echo "Stored the license $(jq -r '.data[0]' <<<"$answer")."

# From here on we speak with this one, by its unique name, which the bus never gives to anyone else: a service that was
# started anew does not know the job, and the bus says that the one we knew is gone.
answer=$(call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus GetNameOwner s $name) || fail_call
service=$(jq -r '.data[0]' <<<"$answer")

# A new file, or one that is there. Of those the service takes an empty one or a pipe, so nothing is overwritten.
if ! [ -e "$backup" ]; then
    (umask 077; set -o noclobber; : >"$backup") || exit 1
    created=1
fi
{ exec 3<>"$backup"; } 2>/dev/null || fail 1 "$backup cannot be opened for reading and writing."

# The job goes on without gdbus, which leaves as soon as it has the answer; Ctrl-C is for the loop below.
trap 'interrupted=1; echo "Canceling." >&2' INT TERM
answer=$(trap '' INT; gdbus call --system --dest "$service" --object-path $root \
    --method $name.LicenseBackup.BackupLicensesToFile 3 0 '{}' 2>"$folder/error") || fail_call
exec 3>&-
job=$(cut -d "'" -f 2 <<<"$answer")

busctl --json=short --timeout=infinity call "$service" "$job" $name.Job Wait >"$folder/done" 2>"$folder/error" &
waiting=$!
while kill -0 $waiting 2>/dev/null; do
    # Cancel asks; what became of the job shows in the answer to Wait.
    [ -z "$interrupted" ] || busctl call "$service" "$job" $name.Job Cancel 2>/dev/null
    busctl --json=short get-property "$service" "$job" $name.Job Completed Total 2>/dev/null |
        jq -r -s 'if length == 2 and .[1].data > 0 then "\(.[0].data) of \(.[1].data)" else empty end'
    sleep 0.5
done
wait $waiting || fail_call

hresult=$(jq '.data[0]' "$folder/done")
if [ "$hresult" -lt 0 ]; then
    message=$(jq -r '.data[2]' "$folder/done")
    [ "$(jq -r '.data[1]' "$folder/done")" != $name.Error.NS_E_DRM_OPERATION_CANCELED ] || fail 4 "$message"
    fail 1 "$message"
fi

# The service has synced the file's content. Its name is in the folder, which is ours. Some file systems, such as
# Flatpak's document portal, cannot: then there is no more to do.
[ -z "$created" ] || sync "$(dirname "$backup")" 2>/dev/null
created=''
jq -r --arg file "$backup" '.data[3] |
    "Backed up \(.licenses.data) licenses to \($file) (\(.bytes.data) bytes), read back and verified."' "$folder/done"

restricted=$(jq '.data[3].restricted.data' "$folder/done")
[ "$restricted" -gt 0 ] || exit 0
echo "May not be backed up (ask who issued them for new ones): $restricted"
# The job keeps the list for a minute. A title comes from a document, and a document from anywhere: it must not steer
# the terminal.
offset=0
while answer=$(call "$service" "$job" $name.Job ListRestricted uu $offset 0); do
    count=$(jq '.data[0] | length' <<<"$answer")
    [ "$count" -gt 0 ] || exit 0
    jq -r '.data[0][] | "  " + (if .[2] == "" then .[0] else .[2] end | gsub("[[:cntrl:]\u202a-\u202e]"; "?"))' \
        <<<"$answer"
    offset=$((offset + count))
done
echo "  NOT-BACKED-UP.txt in the backup names them."
