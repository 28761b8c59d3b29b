# Functions about this machine's packages, sourced by tools/setup and tested by tools/tests/apt.
# shellcheck shell=sh

# missing PACKAGE...: prints those that are not installed, one a line.
missing() {
    # It fails when it does not know one of them, and still tells of the others.
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2> /dev/null || true)
    printf '%s\n' "$@" | sort -u | while read -r package; do
        printf '%s\n' "$installed" | grep -qxF "installed $package" || echo "$package"
    done
}

# newer_than_candidate INSTALLED WANTED: whether package INSTALLED is here in a version above the one apt would take
# for WANTED. Both come from one source package, so apt then refuses to install WANTED beside it.
newer_than_candidate() {
    have=$(dpkg-query -W -f '${Version}' "$1" 2>/dev/null) || return 1
    candidate=$(apt-cache policy "$2" | sed -n 's/^ *Candidate: //p')
    [ -n "$have" ] && [ -n "$candidate" ] && [ "$candidate" != "(none)" ] &&
        dpkg --compare-versions "$have" gt "$candidate"
}

# has_suite APT_DIR SUITE: whether an enabled source under APT_DIR names SUITE.
has_suite() {
    [ -n "$(rename_suite "$1" "$2" "$2" sources)$(rename_suite "$1" "$2" "$2" list)" ]
}

# rename_suite APT_DIR FROM TO FORMAT: prints the first binary source under APT_DIR, of FORMAT `sources` (deb822) or
# `list`, that names suite FROM, with TO in its place. Mirror, key and components stay those of the machine.
rename_suite() {
    case $4 in
    sources) find "$1/sources.list.d" -name '*.sources' 2>/dev/null ;;
    list) find "$1/sources.list" "$1/sources.list.d" -name '*.list' 2>/dev/null ;;
    esac | sort | while read -r file; do
        renamed=$("rename_in_$4" "$2" "$3" "$file")
        [ -z "$renamed" ] || { echo "$renamed" && break; }
    done
}

rename_in_sources() {
    awk -v from="$1" -v to="$2" '
        function flush(  i, found, words, n, j) {
            for (i = 1; i <= count; i++) {
                if (tolower(line[i]) ~ /^enabled: *no/) found = -1
                if (tolower(line[i]) ~ /^types:/ && line[i] !~ /[ \t]deb([ \t]|$)/) found = -1
                if (tolower(line[i]) !~ /^suites:/ || found < 0) continue
                n = split(line[i], words, /[ \t]+/)
                for (j = 2; j <= n; j++) if (words[j] == from) { found = i }
            }
            if (found > 0) {
                line[found] = "Suites: " to
                for (i = 1; i <= count; i++) print line[i]
                count = 0
                exit
            }
            count = 0
        }
        /^[ \t]*#/ { next }
        /^[ \t]*$/ { flush(); next }
        { line[++count] = $0 }
        END { flush() }' "$3"
}

rename_in_list() {
    sed -nE "s/^(deb +(\[[^]]*\] +)?[^ ]+ +)$1( .*)$/\1$2\3/p" "$3" | head -n 1
}

# download FOLDER FUNCTION: fetches into FOLDER the package files that FUNCTION names, and installs nothing.
# A machine may have no package lists, or stale ones, and its user no right to refresh them: then with lists of its own.
download() {
    folder=$(cd "$1" && pwd)
    fetch_named "$folder" "$2" 2> /dev/null && return
    own=$folder/apt
    mkdir -p "$own/lists/partial" "$own/cache/archives/partial"
    printf 'Dir::State::Lists "%s/lists";\nDir::Cache "%s/cache";\n' "$own" "$own" > "$own/conf"
    (
        export APT_CONFIG="$own/conf"
        apt-get -q -o APT::Sandbox::User= update > /dev/null && fetch_named "$folder" "$2"
    ) || return 1
    rm -rf "$own"
}

fetch_named() {
    names=$("$2") && [ -n "$names" ] || return 1
    # shellcheck disable=SC2086
    (cd "$1" && apt-get -q -o APT::Sandbox::User= download $names > /dev/null)
}
