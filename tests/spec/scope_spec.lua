-- lc.scope: temporaries are freed at once, results and parameters live on.

local lc = require "lacuna"
local test = require "lacuna.core.test"

local function message(fn, ...)
  local ok, text = pcall(fn, ...)
  assert.is_false(ok)
  return (tostring(text):gsub("^[^:]+:%d+: ", ""))
end

describe("lc.scope", function()
  it("frees what is no result, at once", function()
    collectgarbage()
    collectgarbage "stop"
    local before = test.live()
    local result = lc.scope(function(n)
      local sum = lc.zeros { n }
      for _ = 1, 50 do sum = sum + lc.ones { n } end
      return sum
    end, 1000)
    local grown = test.live() - before
    collectgarbage "restart"
    assert.equal(50, result[1]:item())
    assert.is_true(grown < 2 * 4500, grown) -- one tensor of 1000 floats, not a hundred
  end)

  it("raises when a freed tensor is touched", function()
    local leaked
    lc.scope(function() leaked = lc.zeros { 2 } end)
    for _, touch in ipairs {
      function() return leaked + 1 end, function() return 1 - leaked end, function() return leaked.shape end,
      function() return leaked[1] end, function() leaked[1] = 2 end, function() return #leaked end,
      function() return tostring(leaked) end, function() return lc.cat { leaked } end,
    } do
      assert.equal("this tensor was freed by lc.scope", message(touch))
    end
  end)

  it("gives all results, in tables to any depth, and other values as they are", function()
    local a, list, text = lc.scope(function()
      local all = { lc.ones(1), deeper = { lc.ones(2), again = {} } }
      all.deeper.again.loop = all
      return lc.ones(3), all, "text"
    end)
    assert.equal("text", text)
    assert.same({ 3, 1, 2 }, { #a, #list[1], #list.deeper[1] })
  end)

  it("can be inside another, whose temporary its result then is", function()
    local inner
    local outer = lc.scope(function()
      inner = lc.scope(function() return lc.ones(2) end)
      return inner * 2
    end)
    assert.same({ 2, 2 }, outer:totable())
    assert.equal("this tensor was freed by lc.scope", message(function() return inner + 1 end))
  end)

  it("leaves what was made outside alone, whatever is done with it", function()
    local x = lc.ones { 2, 2 }
    lc.scope(function()
      x:add_(1)
      x[1]:mul_(3)
    end)
    assert.same({ { 6, 6 }, { 2, 2 } }, x:totable())
  end)

  it("spares parameters, their gradients, and what a graph saved", function()
    local w
    local y = lc.scope(function()
      w = lc.param(lc.tensor { 1, 2 })
      local hidden = w * 3
      return (hidden * hidden):sum()
    end)
    y:backward()
    assert.same({ 18, 36 }, w.grad:totable())
    lc.scope(function() w.grad:add_(1) end)
    assert.same({ 19, 37 }, w.grad:totable())
  end)

  it("spares what lc.func put by", function()
    local keep = lc.func {
      forward = function(ctx, x)
        ctx:save(x * 2)
        ctx.other = x * 3
        return x * 1
      end,
      backward = function(ctx, dy) return dy * ctx:saved() + ctx.other end,
    }
    local w = lc.param(lc.tensor { 5 })
    local y = lc.scope(function() return keep(w):sum() end)
    y:backward()
    assert.equal(25, w.grad:item())
  end)

  it("spares what lies in an exempt table, as run.state is", function()
    local state = require("lacuna.core.grad").exempt {}
    lc.scope(function()
      lc.scope(function() state.deep = { lc.ones(2) } end)
      state.sum = state.deep[1] + 1
    end)
    assert.same({ 2, 2 }, state.sum:totable())
    assert.same({ 1, 1 }, state.deep[1]:totable())
  end)

  it("frees on an error too, which passes as it was", function()
    local leaked
    local kept = { "kept" }
    local ok, err = pcall(lc.scope, function()
      leaked = lc.zeros(2)
      lc.scope(function() error(kept) end)
    end)
    assert.is_false(ok)
    assert.equal(kept, err)
    assert.equal("this tensor was freed by lc.scope", message(function() return leaked + 1 end))
    local fine = lc.zeros(2)
    assert.equal(2, #fine)
  end)

  it("wants a function", function()
    assert.equal("scope: argument 1: expected a function, got nil", message(lc.scope))
  end)
end)

describe("a tensor", function()
  it("is freed by <close>", function()
    local again
    do
      local x <close> = lc.zeros(2)
      again = x
      assert.equal(2, #x)
    end
    assert.is_false(pcall(function() return again + 1 end))
  end)
end)
