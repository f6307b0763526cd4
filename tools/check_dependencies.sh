#!/bin/sh
# Names what the build needs and does not find, each with the Debian package that has it. Headers are looked up by the
# compiler itself ($CC), so that its own search path counts.
set -u
CC=${CC:-gcc}
packages=""

if ! command -v "${CC##* }" >/dev/null 2>&1; then
    echo "missing a C compiler: apt-get install gcc" >&2
    exit 1
fi

need() { # header package
    if ! printf '#include <%s>\n' "$1" | $CC -I/usr/include/lua5.4 -E -x c - >/dev/null 2>&1; then
        echo "missing $1: apt-get install $2" >&2
        packages="$packages $2"
    fi
}

need stdio.h libc6-dev
need lua5.4/lua.h liblua5.4-dev
need histedit.h libedit-dev
need jansson.h libjansson-dev
need xxhash.h libxxhash-dev
need utf8proc.h libutf8proc-dev
need zlib.h zlib1g-dev

if [ -n "$packages" ]; then
    echo "all at once: apt-get install$packages" >&2
    exit 1
fi
