-- The array library against PyTorch's answers: tests/golden/tensor.lua, made by tests/golden/tensor.py.

local lc = require "lacuna"
local golden = dofile "tests/golden/tensor.lua"

local env = { lc = lc, select = select }
for name, input in pairs(golden.inputs) do
  local dtype, what = input[1], input[2]
  env[name] = lc.tensor(what.values, { dtype = dtype }):reshape(what.shape)
end

--- true and false count as 1 and 0, as PyTorch prints some of them.
local function number(value)
  return type(value) == "boolean" and (value and 1 or 0) or value
end

--- f32 results (integers divided) are compared as such.
local function tolerance(result, wanted)
  return (result.dtype == "f32" and 1e-6 or 1e-11) * math.max(1, math.abs(wanted))
end

describe("PyTorch agrees on", function()
  for _, case in ipairs(golden.cases) do
    local expression, wanted = case[1], case[2]
    it(expression, function()
      local result = load("return " .. expression, expression, "t", env)()
      assert.same(wanted.shape, result.shape)
      local values = result:flatten():totable()
      for i, value in ipairs(wanted.values) do
        local got, want = number(values[i]), number(value)
        local close = math.abs(got - want) <= tolerance(result, want) -- false for NaN
        if not close then
          error(("entry %d: %s, PyTorch says %s"):format(i, got, want))
        end
      end
    end)
  end
end)
