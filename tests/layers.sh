#!/bin/sh
# Fails when core breaks its layers: an include of a lower entry by an upper one (DESIGN's order, below), of Lua, or of the
# bindings; when the library prints, ends the process or needs Lua; and when something that is not the project's own lies
# at the top level of what git keeps.  Argument: the built core library.
set -u
library=$1
order="base tensor ops grad io text schedule sparse model mask solve reuse optim run"
broken=0

complain() {
    echo "layers: $*" >&2
    broken=$((broken + 1))
}

rank() {
    position=0
    for layer in $order; do
        position=$((position + 1))
        [ "$layer" = "$1" ] && echo "$position" && return
    done
    echo 0
}

for file in core/*/*.[ch] core/ops/*/*.[ch]; do
    [ -e "$file" ] || continue
    own=$(echo "$file" | cut -d/ -f2)
    own_rank=$(rank "$own")
    [ "$own_rank" = 0 ] && complain "$file: core/$own has no place in the order of layers"
    for included in $(sed -n 's/^ *# *include *"\([^"]*\)".*/\1/p' "$file"); do
        case $included in
        */*) ;;
        *) continue ;; # a neighbour
        esac
        layer=${included%%/*}
        layer_rank=$(rank "$layer")
        if [ "$layer_rank" = 0 ]; then
            complain "$file includes \"$included\", which is not in core"
        elif [ "$layer_rank" -gt "$own_rank" ]; then
            complain "$file includes \"$included\": $layer comes after $own"
        fi
    done
done

grep -nE '# *include *[<"](lua|lauxlib|lualib|lcl)' -r core && complain "core includes Lua"

known=".ci .clang-format .gitignore .luacheckrc LICENSE Makefile README.md bindings core docs recipes repl tests"
for entry in $(git ls-files 2>/dev/null | cut -d/ -f1 | sort -u); do
    case " $known " in
    *" $entry "*) ;;
    *) complain "$entry does not belong at the top level" ;;
    esac
done

symbols=$(nm -u "$library" | awk '{print $2}' | sort -u)
for name in $symbols; do
    case $name in
    lua_* | luaL_*) complain "core calls $name" ;;
    printf | vprintf | puts | putchar | perror | stdout | stderr | __printf_chk | __vprintf_chk) complain "core prints: $name" ;;
    exit | _exit | abort | __assert_fail | longjmp) complain "core ends the process: $name" ;;
    esac
done

[ "$broken" = 0 ] && echo "layers: core includes only what stands before it, and no Lua"
[ "$broken" = 0 ]
