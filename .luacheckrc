std = "lua54"
max_line_length = 120
files["tests/spec"] = { std = "lua54+busted" }
exclude_files = { "tests/golden" } -- written by programs
files["repl/main.lua"] = { globals = { "arg" } }
