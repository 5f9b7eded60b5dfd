# SPDX-License-Identifier: LGPL-2.1-or-later
# Completion for bash. What can stand where, the program itself says: licensevaultctl --complete WORD…

_licensevaultctl()
{
    local -a words=()
    local -A actions=([files]=file [folders]=directory)
    local i word trimmed rest=${COMP_LINE:0:COMP_POINT} current quote= prefix= kind value description

    # Bash has split the line at ':' and '=', too, which ids may have: put together what no space divides.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        trimmed=${rest#"${rest%%[![:space:]]*}"}
        ((i < COMP_CWORD)) || word=$trimmed
        if ((i > 0)) && [[ $rest == "$trimmed" && $word ]]; then
            words[${#words[@]}-1]+=$word
        else
            words+=("$word")
        fi
        rest=${trimmed#"$word"}
    done
    words=("${words[@]:1}")
    current=${words[-1]}

    # A value behind its option, --output=FILE, is a word of its own.
    if [[ $current == --*=* ]]; then
        words[-1]=${current%%=*}
        current=${current#*=}
        words+=("$current")
    fi

    # What was typed, without its quotes. Nothing is ever evaluated.
    [[ $current == [\'\"]* ]] && quote=${current:0:1}
    for i in "${!words[@]}"; do
        case ${words[i]} in
            \'*) word=${words[i]:1} words[i]=${word%\'} ;;
            \"*) word=${words[i]:1} word=${word%\"} words[i]=${word//\\/} ;;
            *) words[i]=${words[i]//\\/} ;;
        esac
    done
    # Only what is behind the last of bash's breaks is replaced.
    if [[ ! $quote ]]; then
        [[ $COMP_WORDBREAKS == *:* && $current == *:* ]] && prefix=${current%:*}:
        [[ $COMP_WORDBREAKS == *=* && ${current#"$prefix"} == *=* ]] && prefix=${current%=*}=
    fi

    COMPREPLY=()
    while read -r kind; do
        case $kind in
            files | folders)
                compopt -o filenames 2>/dev/null
                mapfile -t COMPREPLY < <(compgen -A "${actions[$kind]}" -- "${words[-1]}")
                ;;
            words)
                while IFS=$'\t' read -r value description; do
                    case $quote in
                        \') [[ $value == *\'* ]] && continue ;;
                        \") value=${value//\\/\\\\} value=${value//\"/\\\"} value=${value//\$/\\\$} value=${value//\`/\\\`} ;;
                        *) printf -v value %q "$value" ;;
                    esac
                    COMPREPLY+=("${value#"$prefix"}")
                done
                ;;
        esac
    done < <(licensevaultctl --complete "${words[@]}" 2>/dev/null)
}
complete -F _licensevaultctl licensevaultctl
