-- The examples of docs/language.md run, in order, in one session, and print what the page says; the first of README.md
-- runs as a recipe.

local cli = require "tests.cli"
local temporary = dofile "tests/temporary.lua"

--- All Lua blocks of a page, each with the line that it begins on.
local function blocks(path)
  local list, current, number = {}, nil, 0
  for line in io.lines(path) do
    number = number + 1
    if line == "```lua" then
      current = { line = number + 1 }
      list[#list + 1] = current
    elseif line == "```" then
      current = nil
    elseif current then
      current[#current + 1] = line
    end
  end
  return list
end

--- One chunk for the whole page: locals of one block are seen in the next. Statements keep their line numbers.
local function chunk(path)
  local lines, expected = {}, {}
  for _, block in ipairs(blocks(path)) do
    while #lines < block.line - 1 do lines[#lines + 1] = "" end
    for _, line in ipairs(block) do
      local text = line:match "^%-%-> (.*)$"
      if text then expected[#expected + 1] = { text = text, line = #lines + 1 } end
      lines[#lines + 1] = line
    end
  end
  return table.concat(lines, "\n"), expected
end

local function captured(path)
  local source, expected = chunk(path)
  local printed = {}
  local environment = setmetatable({
    print = function(...)
      local parts = table.pack(...)
      for i = 1, parts.n do parts[i] = tostring(parts[i]) end
      printed[#printed + 1] = table.concat(parts, "\t")
    end,
  }, { __index = _G })
  assert(load(source, "@" .. path, "t", environment))()
  return printed, expected
end

describe("docs/language.md", function()
  it("prints what its comments say", function()
    local options = require "lacuna.options"
    local before, out = options.value.toy, options.value.out
    local arguments, directory = options.arguments, temporary()
    options.value.toy, options.value.out, options.arguments = true, directory, {}
    for name in pairs(package.loaded) do
      if name == "lacuna" then package.loaded[name] = nil end
    end
    local ok, printed, expected = xpcall(captured, debug.traceback, "docs/language.md")
    options.value.toy, options.value.out, options.arguments = before, out, arguments
    package.loaded["lacuna"] = nil
    assert(ok, printed)
    for i, want in ipairs(expected) do
      local got = printed[i] and printed[i]:gsub("^docs/language%.md:%d+: ", ""):gsub("\tdocs/language%.md:%d+: ", "\t")
      assert.equal(want.text, got, "line " .. want.line)
    end
    assert.equal(#expected, #printed)
  end)
end)

describe("README.md", function()
  it("begins with a recipe that runs", function()
    local directory = temporary()
    local result = cli.recipe(table.concat(blocks("README.md")[1], "\n"), "--steps 2", "--toy --out " .. directory)
    local saved = cli.shell("ls -d " .. directory .. "/*/sparsity-0.9/model.safetensors")
    assert.same({ "", 0, 0 }, { result.err, result.status, saved.status })
  end)
end)
