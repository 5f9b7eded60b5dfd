# SPDX-License-Identifier: LGPL-2.1-or-later
# Sourced by tests/check and tests/demo: installs what is missing. Takes no questions.
# prepare NAME…: what to install is grouped, so that the demo needs less than the tests.

say() {
    printf '\n\033[1m%s\033[0m\n' "$*"
}

[ -t 1 ] || say() {
    printf '\n%s\n' "$*"
}

packages_build="build-essential meson ninja-build pkg-config libsystemd-dev libglib2.0-dev libsqlite3-dev
    libarchive-dev libsodium-dev libjansson-dev libcmocka-dev"
packages_run="dbus systemd libglib2.0-bin bsdutils"
packages_test="git python3 clang clang-tidy clang-tools libclang-rt-dev libarchive-tools p7zip-full attr strace
    age gnupg zstd restic jq man-db mandoc systemd-container dbus-broker polkitd pkexec
    bindfs fuse3 btrfs-progs e2fsprogs mount gcovr python3-gi xdg-dbus-proxy zsh fish"
packages_window="libgtk-4-dev libadwaita-1-dev xvfb"
packages_bench="python3 gnome-keyring"
# By its name in Debian 12; the runtime of clang's sanitizers is a package of each version.
apt-cache show libclang-rt-dev >/dev/null 2>&1 || packages_test=${packages_test/libclang-rt-dev/}

prepare() {
    local group package missing=()

    if ! command -v apt-get >/dev/null; then
        echo "This is no Debian or Ubuntu: install by hand what README.md lists, then it goes on." >&2
        return 0
    fi
    for group in "$@"; do
        local list="packages_$group"
        for package in ${!list}; do
            # "Status: install ok installed", and nothing else
            [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
                missing+=("$package")
        done
    done
    [ ${#missing[@]} -gt 0 ] || return 0

    say "Installing what is missing: ${missing[*]}"
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
