#!/bin/sh
# What Lacuna needs from Debian, by purpose: docs/dependencies.md says what each is for.
#
#   packages.sh check              names missing headers with their packages; fails when one is missing
#   packages.sh install PURPOSE... installs missing packages by apt-get, as root or through sudo; fails, naming them, when
#                                  it cannot.  PURPOSE: build test lint fuzz plot bible peers
set -u
CC=${CC:-gcc}

packages_for() {
    case $1 in
    build) echo gcc make libc6-dev liblua5.4-dev libedit-dev libjansson-dev libxxhash-dev libutf8proc-dev \
        libpcre2-dev zlib1g-dev libzip-dev \
        libopenblas0-pthread ;;
    test) echo lua-busted python3 gnuplot-nox ;;
    lint) echo clang-format cppcheck lua-check ;;
    fuzz) echo clang libclang-rt-14-dev ;;
    plot) echo gnuplot-nox ;;
    bible) echo bible-kjv bible-kjv-text ;;
    peers) echo python3-venv ;;
    *) echo "packages.sh: unknown purpose '$1'" >&2; exit 2 ;;
    esac
}

# Headers are looked up by the compiler itself, so that its own search path counts.
check_headers() {
    if ! $CC --version >/dev/null 2>&1; then
        echo "missing a C compiler: apt-get install gcc" >&2
        return 1
    fi
    missing=""
    while read -r header package; do
        printf '#include <%s>\n' "$header" | $CC -E -x c - >/dev/null 2>&1 && continue
        echo "missing $header: apt-get install $package" >&2
        missing="$missing $package"
    done <<END
stdio.h libc6-dev
lua5.4/lua.h liblua5.4-dev
histedit.h libedit-dev
jansson.h libjansson-dev
xxhash.h libxxhash-dev
utf8proc.h libutf8proc-dev
pcre2posix.h libpcre2-dev
zlib.h zlib1g-dev
zip.h libzip-dev
END
    [ -z "$missing" ] && return 0
    echo "all at once: apt-get install$missing" >&2
    return 1
}

is_installed() {
    dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q '^install ok installed'
}

install_packages() {
    command -v dpkg-query >/dev/null 2>&1 || return 0 # not Debian: what is missing shows when it is used
    missing=""
    for purpose in "$@"; do
        for package in $(packages_for "$purpose"); do
            is_installed "$package" || missing="$missing $package"
        done
    done
    [ -z "$missing" ] && return 0
    if [ "$(id -u)" = 0 ]; then
        as_root=""
    elif command -v sudo >/dev/null 2>&1; then
        as_root=sudo
    else
        echo "missing, and neither root nor sudo to install them: apt-get install$missing" >&2
        return 1
    fi
    echo "installing$missing"
    # shellcheck disable=SC2086  # lists of words
    { $as_root apt-get update -qq && $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends $missing >/dev/null; } && return 0
    echo "apt-get could not install:$missing" >&2
    return 1
}

case ${1:-} in
check) check_headers ;;
install) shift; install_packages "$@" ;;
*) echo "usage: packages.sh check | install PURPOSE..." >&2; exit 2 ;;
esac
