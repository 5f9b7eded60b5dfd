# SPDX-License-Identifier: LGPL-2.1-or-later
# Completion for fish. What can stand where, the program itself says: licensevaultctl --complete WORD…

function __licensevaultctl_complete
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l prefix ''

    # A value behind its option, --output=FILE, is a word of its own.
    if string match --quiet --regex -- '^--[^=]+=' "$current"
        set -a words (string replace --regex -- '=.*' '' "$current")
        set prefix (string replace --regex -- '=.*' '=' "$current")
        set current (string replace --regex -- '^[^=]*=' '' "$current")
    end
    set current (string unescape -- "$current"; or echo -- "$current")

    set -l lines (licensevaultctl --complete $words[2..] "$current" 2>/dev/null)
    switch "$lines[1]"
        case files
            printf '%s\n' $prefix(__fish_complete_path "$current")
        case folders
            printf '%s\n' $prefix(__fish_complete_directories "$current")
        case words
            printf '%s\n' $prefix$lines[2..]
    end
end

complete --command licensevaultctl --no-files --arguments '(__licensevaultctl_complete)'
