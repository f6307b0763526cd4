-- lc.show: what it prints, and that its picture is one.

local lc = require "lacuna"
local tiny = require "tests.tiny"
local temporary = dofile "tests/temporary.lua"

--- What lc.show prints for these arguments.
local function shown(...)
  local lines, real = {}, print
  _G.print = function(text) lines[#lines + 1] = text end -- luacheck: ignore
  local ok, problem = pcall(lc.show, ...)
  _G.print = real -- luacheck: ignore
  assert(ok, problem)
  return table.concat(lines, "\n")
end

local function rows(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do list[#list + 1] = line end
  return list
end

describe("lc.show", function()
  it("draws the histogram of a tensor, each element in one bin", function()
    local lines = rows(shown(lc.tensor { 0, 1, 1, 2, 3, 4 }, { bins = 4 }))
    assert.equal("6 elements of f32", lines[1])
    assert.truthy(lines[2]:find "^0  1 █+")
    assert.truthy(lines[3]:find "^1  2 █+")
    assert.truthy(lines[4]:find "^2  1 █+")
    assert.truthy(lines[5]:find "^3  2 █+") -- the largest belongs to the last bin
    assert.equal(5, #lines)
    assert.truthy(#lines[3] > #lines[2] + 10)
  end)

  it("leaves out what is not finite, and says so", function()
    local lines = rows(shown(lc.tensor { 1, 1, 1 / 0, 0 / 0 }))
    assert.equal("2 elements of f32, 2 not finite left out", lines[1])
    assert.truthy(lines[2]:find "^1  2 █+")
    assert.equal("0 elements of f32, 1 not finite left out", shown(lc.tensor { 0 / 0 }))
  end)

  it("takes integers, booleans and tensors that record", function()
    assert.equal("3 elements of i64", rows(shown(lc.tensor({ 1, 2, 3 }, { dtype = "i64" })))[1])
    assert.equal("4 elements of bool", rows(shown(lc.tensor { 1, 2, 3, 4 }:gt(2)))[1])
    assert.equal("2 elements of f32", rows(shown(lc.param(lc.tensor { 1, 2 }) * 2))[1])
  end)

  it("shortens long bars with log", function()
    local x = lc.cat({ lc.zeros { 1000 }, lc.ones { 10 } }, 1)
    local plain, log = rows(shown(x, { bins = 2 })), rows(shown(x, { bins = 2, log = true }))
    assert.equal(#plain[2], #log[2])
    assert.truthy(#log[3] > #plain[3] + 10)
  end)

  it("draws a bar for each layer of a selection and of a mask", function()
    local model = tiny.gpt2()
    local mask = lc.prune.magnitude(model:linears "mlp", { sparsity = 0.5 })
    local lines = rows(shown(mask))
    assert.equal("share that the mask prunes, by layer", lines[1])
    assert.equal(#model:linears "mlp" + 1, #lines)
    assert.truthy(lines[2]:find "transformer.h.0.mlp.c_fc +50.0%% █+")
    lines = rows(shown(model:linears()))
    assert.equal("sparsity of each layer", lines[1])
    assert.truthy(lines[2]:find "attn.c_attn +0.0%%$")
  end)

  it("draws the curve of a schedule", function()
    local lines = rows(shown(lc.schedule { { 0.0, 0 }, { 0.9, 0.25 } }))
    assert.equal("schedule {0, from 0}, {0.9, from 0.25} against progress", lines[1])
    assert.truthy(lines[2]:find "^ +0.9 | +%*+$")
    assert.truthy(lines[16]:find "^ +0 |%*+$")
  end)

  it("writes a PNG", function()
    if not os.execute "command -v gnuplot >/dev/null" then
      return pending "needs gnuplot: apt-get install gnuplot-nox"
    end
    for _, value in ipairs { lc.randn { 100 }, lc.schedule { { 0, 0 }, { 1, 0.5 } }, tiny.gpt2():linears() } do
      local name = temporary()
      local path = name .. ".png"
      os.remove(name)
      lc.show(value, { file = path })
      local file = assert(io.open(path, "rb"))
      assert.equal("\137PNG", file:read(4))
      assert.truthy(file:seek "end" > 2000)
      file:close()
      os.remove(path)
    end
  end)

  for message, call in pairs {
    ["show: expected a tensor, selection, mask or schedule, got a number"] = function() lc.show(3) end,
    ["show: unknown option 'bin' (did you mean 'bins'?)"] = function() lc.show(lc.zeros { 2 }, { bin = 3 }) end,
    ["show: bins must be an integer from 1 to 1000, got 0"] = function() lc.show(lc.zeros { 2 }, { bins = 0 }) end,
    ["show: file must end with .png, got x.gif"] = function() lc.show(lc.zeros { 2 }, { file = "x.gif" }) end,
    ["show: gnuplot could not write '/nowhere/x.png'"] = function()
      lc.show(lc.zeros { 2 }, { file = "/nowhere/x.png" })
    end,
  } do
    it("says " .. message, function()
      local ok, problem = pcall(call)
      assert.falsy(ok)
      assert.truthy(problem:find(message, 1, true), problem)
    end)
  end
end)
