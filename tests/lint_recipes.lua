--- Finds in recipes what Lua lets pass: `==` or `~=` between a tensor and a number, which is never equal. A name counts
-- as a tensor when a function that the docs say gives one made it. (Globals in recipes are luacheck's part.)
--
--   lacuna tests/lint_recipes.lua FILE...

--- Names of functions and methods whose documented result is one tensor, and of fields that hold one.
local makes_tensor = { grad = true, weight = true, bias = true }
for name, row in pairs(require "lacuna.core.docs") do
  if (row.signature or ""):find "%-> tensor$" then makes_tensor[name:match "[%w_]+$"] = true end
end

--- Splits Lua text into tokens {kind, text, line}: "name", "number", "string" or "symbol"; comments are dropped.
local function tokens_of(text)
  local list, position, line = {}, 1, 1
  local function take(kind, pattern)
    local first, last = text:find("^" .. pattern, position)
    if not first then return false end
    local piece = text:sub(first, last)
    if kind then list[#list + 1] = { kind = kind, text = piece, line = line } end
    line = line + select(2, piece:gsub("\n", ""))
    position = last + 1
    return true
  end
  local function take_long(kind, prefix)
    local level = text:match("^" .. prefix .. "%[(=*)%[", position)
    return level and take(kind, prefix .. "%[" .. level .. "%[.-%]" .. level .. "%]")
  end
  while position <= #text do
    local _ = take(nil, "%s+") or take_long(nil, "%-%-") or take(nil, "%-%-[^\n]*") or take_long("string", "")
      or take("string", '""') or take("string", "''")
      or take("string", '"[^\n]-[^\\]"') or take("string", "'[^\n]-[^\\]'")
      or take("name", "[%a_][%w_]*") or take("number", "0[xX][%x.]+") or take("number", "%d[%w.]*")
      or take("symbol", "[=~<>]=") or take("symbol", "%.%.%.?") or take("symbol", ".")
  end
  return list
end

local closing = { [")"] = "(", ["}"] = "{", ["]"] = "[" }

--- The token that names what ends before token i: "sum" for x:sum(1), "weight" for layer.weight, "x" for x. None for
-- lengths (#x) and for functions of math.
local function name_before(list, i)
  local j = i - 1
  while list[j] and closing[list[j].text] do
    local open, depth = closing[list[j].text], 0
    local close = list[j].text
    repeat
      if list[j].text == close then depth = depth + 1 end
      if list[j].text == open then depth = depth - 1 end
      j = j - 1
    until depth == 0 or not list[j]
  end
  if list[j] and list[j].kind == "string" then j = j - 1 end
  local before = list[j - 1] and list[j - 1].text
  if not list[j] or list[j].kind ~= "name" or before == "#" then return nil end
  if before == "." and list[j - 2] and list[j - 2].text == "math" then return nil end
  return list[j].text
end

--- The position after the expression that begins at token i and stays on its line.
local function end_of_line(list, i)
  local line, depth = list[i].line, 0
  while list[i] and (list[i].line == line or depth > 0) do
    if closing[list[i].text] then depth = depth - 1 end
    if list[i].text:find "^[({[]$" then depth = depth + 1 end
    i = i + 1
  end
  return i
end

local function find_comparisons(path, text)
  local list, tensors, findings = tokens_of(text), {}, {}
  for i, token in ipairs(list) do
    if token.text == "=" and list[i - 1] and list[i - 1].kind == "name" and list[i + 1] then
      tensors[list[i - 1].text] = makes_tensor[name_before(list, end_of_line(list, i + 1))] or nil
    elseif token.text == "==" or token.text == "~=" then
      local minus = list[i + 1] and list[i + 1].text == "-" and "-" or ""
      local after = list[i + 1 + #minus]
      local name = name_before(list, i)
      local own_field = list[i - 2] and list[i - 2].text == "." and list[i - 1].kind == "name"
      local is_tensor = name and (makes_tensor[name] and (own_field or list[i - 1].text == ")")
        or tensors[name] and not own_field and list[i - 1].kind == "name")
      if after and after.kind == "number" and is_tensor then
        findings[#findings + 1] = ("%s:%d: '%s %s %s' compares a tensor with a number, which is never equal; "
          .. "use :eq() or :ne(), or :item() first"):format(path, token.line, name, token.text, minus .. after.text)
      end
    end
  end
  return findings
end

local count = 0
for _, path in ipairs(arg) do
  local file = assert(io.open(path))
  for _, finding in ipairs(find_comparisons(path, file:read "a")) do
    print(finding)
    count = count + 1
  end
  file:close()
end
os.exit(count == 0, true)
