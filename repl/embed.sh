#!/bin/sh
# Writes assembler that holds each given Lua file and a table of them, for repl/modules.c:
#   struct { const char *name; const char *begin, *end; } lc_embedded[];     the last name is NULL
# bindings/lua/lacuna/NAME.lua is module "lacuna.NAME", lacuna/init.lua is "lacuna", repl/NAME.lua is "lacuna.repl.NAME".
set -eu

module_name() {
    case $1 in
    bindings/lua/lacuna/init.lua) echo lacuna ;;
    bindings/lua/lacuna/*) echo "lacuna.$(basename "$1" .lua)" ;;
    repl/*) echo "lacuna.repl.$(basename "$1" .lua)" ;;
    *) echo "embed.sh: $1: no module name for this place" >&2; exit 1 ;;
    esac
}

echo '.section .rodata'
number=0
for file in "$@"; do
    number=$((number + 1))
    name=$(module_name "$file")
    printf 'name%d: .asciz "%s"\nbegin%d: .incbin "%s"\nend%d:\n' "$number" "$name" "$number" "$file" "$number"
done
printf '.section .data.rel.ro,"aw"\n.balign 8\n.global lc_embedded\nlc_embedded:\n'
i=0
while [ "$i" -lt "$number" ]; do
    i=$((i + 1))
    printf '.quad name%d, begin%d, end%d\n' "$i" "$i" "$i"
done
printf '.quad 0, 0, 0\n.section .note.GNU-stack,"",@progbits\n'
