#!/bin/sh
# Writes the King James Bible, from Debian's bible-kjv, as plain text to FILE unless it is there: one verse a line without
# its reference, an empty line between chapters.
set -eu
file=$1
[ -s "$file" ] && exit 0
mkdir -p "$(dirname "$file")"
bible -f "gen1:1-rev22:21" | awk '{
    chapter = $1
    sub(/:.*/, "", chapter)
    if (NR > 1 && chapter != previous) print ""
    previous = chapter
    sub(/^[^ ]* /, "")
    print
}' > "$file.part"
verses=$(grep -c . "$file.part")
if [ "$verses" -ne 31102 ]; then
    echo "bible_text.sh: got $verses verses instead of 31102: is the package bible-kjv-text whole?" >&2
    rm -f "$file.part"
    exit 1
fi
mv "$file.part" "$file"
