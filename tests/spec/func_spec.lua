-- lc.func: ops in Lua.

local lc = require "lacuna"

local function message(fn, ...)
  local ok, text = pcall(fn, ...)
  assert.is_false(ok)
  return (tostring(text):gsub("^[^:]+:%d+: ", ""))
end

local square = lc.func {
  forward = function(ctx, x)
    ctx:save(x)
    return x * x
  end,
  backward = function(ctx, dy)
    local x = ctx:saved()
    return dy * x * 2
  end,
}

describe("lc.func", function()
  it("gives the gradient that backward says", function()
    local w = lc.param(lc.tensor { 1, -2, 3 })
    square(w):sum():backward()
    assert.same({ 2, -4, 6 }, w.grad:totable())
    assert.is_true(lc.gradcheck(function(x) return square(x * 3):exp() end,
      { lc.tensor({ 0.3, -0.2 }, { dtype = "f64" }) }) < 1e-6)
  end)

  it("passes other arguments through, and several results back", function()
    local split = lc.func {
      forward = function(ctx, scale, x, name, y)
        assert.equal("name", name)
        ctx.scale = scale
        return x * scale, y + 1
      end,
      backward = function(ctx, dx, dy)
        return nil, dx and dx * ctx.scale, nil, dy
      end,
    }
    local x, y = lc.param(lc.tensor { 1 }), lc.param(lc.tensor { 2 })
    local a, b = split(5, x, "name", y)
    assert.same({ 5, 3 }, { a:item(), b:item() });
    (a + b * 7):sum():backward()
    assert.same({ 5, 7 }, { x.grad:item(), y.grad:item() })
    local alone = split(5, x, "name", y)
    x.grad, y.grad = nil, nil
    alone:sum():backward()
    assert.equal(5, x.grad:item())
    assert.is_nil(y.grad)
  end)

  it("takes nil for no gradient, and no backward for no gradient at all", function()
    local w = lc.param(lc.tensor { 1, 2 })
    local none = lc.func { forward = function(_, x) return x * 2 end, backward = function() end }
    none(w):sum():backward()
    assert.is_nil(w.grad)
    assert.is_false(lc.func { forward = function(_, x) return x * 2 end } (w).requires_grad)
  end)

  it("computes nothing for backward when no input wants a gradient", function()
    assert.is_false(square(lc.tensor { 3 }).requires_grad)
    assert.equal(9, square(lc.tensor { 3 }):item())
  end)

  it("may return its own input", function()
    local same = lc.func { forward = function(_, x) return x end, backward = function(_, dy) return dy * 10 end }
    local w = lc.param(lc.tensor { 1 })
    same(w):sum():backward()
    assert.equal(10, w.grad:item())
    assert.is_true(w.requires_grad)
  end)

  it("works inside another one, and inside a coroutine that did not make it", function()
    local outer = lc.func {
      forward = function(ctx, x)
        ctx:save(x)
        return square(x)
      end,
      backward = function(ctx, dy) return square(dy) * ctx:saved() end,
    }
    local w = lc.param(lc.tensor { 3 })
    local y = coroutine.wrap(function() return outer(w) end)()
    coroutine.wrap(function() y:backward(lc.tensor { 2 }) end)()
    assert.equal(12, w.grad:item())
  end)

  it("keeps a Lua error as it was, in forward and in backward", function()
    local kept = setmetatable({}, { __name = "kept" })
    local w = lc.param(lc.tensor { 1 })
    local bad_forward = lc.func { forward = function() error(kept) end }
    local bad_backward = lc.func { forward = function(_, x) return x * 1 end, backward = function() error(kept) end }
    local ok, err = pcall(bad_forward, w)
    assert.is_false(ok)
    assert.equal(kept, err)
    ok, err = pcall(function() bad_backward(w):sum():backward() end)
    assert.is_false(ok)
    assert.equal(kept, err)
    square(w):sum():backward() -- and all is well afterwards
    assert.equal(2, w.grad:item())
  end)

  it("refuses to yield inside a backward pass", function()
    local yields = lc.func { forward = function(_, x) return x * 1 end, backward = function(_, dy)
      coroutine.yield()
      return dy
    end }
    local w = lc.param(lc.tensor { 1 })
    local thread = coroutine.create(function() yields(w):sum():backward() end)
    local ok, err = coroutine.resume(thread)
    assert.is_false(ok)
    assert.matches("attempt to yield", err)
  end)

  it("says when a saved tensor was changed, and when the pass is over", function()
    local x = lc.tensor { 2 }
    local context
    local times = lc.func {
      forward = function(ctx, w)
        context = ctx
        ctx:save(x, nil)
        return w * x
      end,
      backward = function(ctx, dy) return dy * ctx:saved() end,
    }
    local w = lc.param(lc.tensor { 1 })
    local y = times(w):sum()
    x:add_(1)
    assert.equal("ctx:saved: tensor 1 was changed in place after ctx:save; save x:clone(), or write into a copy",
      message(y.backward, y))
    times(w):sum():backward()
    assert.equal("ctx:saved: this call's backward pass is over, and what it saved is freed",
      message(context.saved, context))
  end)

  it("checks what the functions return", function()
    local w = lc.param(lc.tensor { 1, 2 })
    local function of(forward, backward) return lc.func { forward = forward, backward = backward } end
    local pass = function(_, x) return x * 1 end
    assert.equal("lc.func: forward must return tensors, got 3", message(of(function() return 3 end), w))
    assert.equal("lc.func: forward must return 1 to 4 tensors, got 0 values", message(of(function() end), w))
    assert.equal("lc.func: backward must return a tensor or nil for argument 1, got 3",
      message(function() of(pass, function() return 3 end)(w):sum():backward() end))
    assert.equal("lc.func: backward gave 2 gradients, but 1 argument was given",
      message(function() of(pass, function(_, dy) return dy, dy, nil end)(w):sum():backward() end))
    local wrong_shape = of(pass, function() return lc.zeros(3) end)
    assert.matches("%(3%).*%(2%)", message(function() wrong_shape(w):sum():backward() end))
    assert.equal("func: option 'forward' is needed: function(ctx, ...) -> tensors, run without recording",
      message(lc.func, {}))
    assert.equal("func: option 'forward' must be a function, got 1", message(lc.func, { forward = 1 }))
    assert.equal("func: unknown option 'backwards' (did you mean 'backward'?)",
      message(lc.func, { forward = pass, backwards = pass }))
  end)

  it("reads the clock of the pass it is called in", function()
    local seen
    local look = lc.func {
      forward = function(ctx, w)
        seen = { ctx.step, ctx.progress, ctx.training }
        return w * 1
      end,
      backward = function(ctx, dy)
        assert.equal(seen[1], ctx.step)
        return dy
      end,
    }
    local model = lc.model { family = "gpt2", vocab_size = 9, n_positions = 4, n_embd = 4, n_layer = 1, n_head = 1 }
    model:linears()[1]:transform(function(w) return look(w) end)
    local batch = { ids = { { 1, 2, 3 } } }
    lc.train(model, { batch }, { steps = 4, progress = false })
    assert.same({ 4, 0.75, true }, seen)
    model:loss(batch)
    assert.same({ 4, 0.75, false }, seen)
  end)

  it("counts multiply-adds", function()
    local test = require "lacuna.core.test"
    local before = test.macs()
    lc.func { forward = function(ctx, x)
      ctx:macs(1000)
      return x * 1
    end } (lc.zeros(1))
    assert.equal(1000, test.macs() - before)
  end)

  it("refuses a dense count below what was done", function()
    local refusal = message(lc.func { forward = function(ctx, x)
      ctx:macs(10, 9)
      return x
    end }, lc.zeros(1))
    assert.matches("ctx:macs: the dense count, 9, is less than what was done, 10", refusal, 1, true)
  end)

  it("gives its memory back, whether backward runs or not", function()
    local test = require "lacuna.core.test"
    local w = lc.param(lc.randn { 10 })
    local function work(finish)
      local y = square(square(w)):sum()
      if finish then
        y:backward()
        w.grad = nil
      end
    end
    work(true)
    collectgarbage()
    local before = test.live()
    for i = 1, 10 do work(i % 2 == 0) end
    collectgarbage()
    collectgarbage()
    assert.equal(before, (test.live()))
  end)

  it("survives the failure of any allocation", function()
    local test = require "lacuna.core.test"
    local w = lc.param(lc.tensor { 1, 2, 3 })
    local function work()
      local kept = lc.scope(function() return square(w) * 2 end)
      square(kept):sum():backward()
      local result = w.grad:totable()
      w.grad = nil
      return result
    end
    local wanted = work()
    collectgarbage()
    local before, first = test.live(), test.allocations()
    work()
    local count = test.allocations() - first
    assert.is_true(count > 30)
    for n = 1, count + 5 do
      test.fail_at(n)
      local ok, result = pcall(work)
      test.fail_at(0)
      if ok then assert.same(wanted, result) else assert.matches("memory", result) end
      w.grad = nil
      collectgarbage()
      collectgarbage()
      assert.equal(before, (test.live()), n)
      assert.same(wanted, work()) -- nothing was left switched off
      collectgarbage()
    end
  end)
end)
