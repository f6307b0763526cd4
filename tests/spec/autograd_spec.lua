-- Gradients from Lua: backward, leaves, refusals, and finite differences through the array library.

local lc = require "lacuna"

local function message(fn, ...)
  local ok, text = pcall(fn, ...)
  assert.is_false(ok)
  return (tostring(text):gsub("^[^:]+:%d+: ", ""))
end

local stream = lc.stream("autograd_spec", 1)

local function f64(shape)
  return stream:randn(shape, { dtype = "f64" })
end

describe("backward", function()
  it("adds into the leaves' gradients until they are cleared", function()
    local w = lc.param(lc.tensor { 1, 2, 3 })
    assert.is_nil(w.grad);
    (w * w):sum():backward()
    assert.same({ 2, 4, 6 }, w.grad:totable());
    (w * 3):sum():backward()
    assert.same({ 5, 7, 9 }, w.grad:totable())
    w.grad = nil
    assert.is_nil(w.grad)
    assert.equal("x.grad can only be set to nil, got 3", message(function() w.grad = 3 end))
  end)

  it("takes a seed, and needs one unless there is one number", function()
    local w = lc.param(lc.tensor { 1, 2 });
    (w * w):backward(lc.tensor { 10, 1 })
    assert.same({ 20, 4 }, w.grad:totable())
    assert.equal("backward: a tensor of shape (2) needs a gradient of that shape; or reduce it first (x:sum())",
      message(function() (w * w):backward() end))
  end)

  it("reaches through views, sums broadcasting up, and follows x[i]", function()
    local w, b = lc.param(lc.zeros { 2, 3 }), lc.param(lc.zeros { 3 });
    ((w + b):t() { { 1, 2 }, 2 } * lc.tensor { 5, 7 }):sum():backward()
    assert.same({ { 0, 0, 0 }, { 5, 7, 0 } }, w.grad:totable())
    assert.same({ 5, 7, 0 }, b.grad:totable())
  end)

  it("is refused twice, on constants, and when a saved tensor changed", function()
    local w = lc.param(lc.tensor { 1, 2 })
    local y = (w * w):sum()
    y:backward()
    assert.is_false(pcall(y.backward, y))
    assert.is_false(pcall(function() lc.zeros(1):backward() end))
    local c = lc.tensor { 3, 4 }
    local z = (w * c):sum()
    c:zero_()
    assert.matches("changed", message(z.backward, z))
  end)
end)

describe("recording", function()
  it("stops at detach and in lc.no_grad, and starts again after an error", function()
    local w = lc.param(lc.tensor { 2 })
    assert.is_true((w * w).requires_grad)
    assert.is_false((w:detach() * w:detach()).requires_grad)
    local y, three = lc.no_grad(function(k) return w * k, 3 end, 5)
    assert.is_false(y.requires_grad)
    assert.same({ 10, 3 }, { y:item(), three })
    local kept = { "kept whole" }
    local ok, err = pcall(lc.no_grad, function() error(kept) end)
    assert.is_false(ok)
    assert.equal(kept, err)
    assert.is_true((w * w).requires_grad)
  end)

  it("lets leaves be written, but not what was computed from them", function()
    local w = lc.param(lc.tensor { 1, 2 })
    w:sub_(1)
    w[1] = 7
    assert.same({ 7, 1 }, w:totable())
    local y = w * 2
    assert.matches("^add in place: this tensor was computed with gradients", message(y.add_, y, 1))
    assert.matches("^copy in place: operand 1 has a gradient that would be lost",
      message(function() lc.zeros(2):copy_(w) end))
    lc.no_grad(function() y:add_(1) end)
    assert.same({ 15, 3 }, y:totable())
  end)

  it("needs floats", function()
    assert.equal("a gradient needs a floating-point tensor, not i64; cast with x:to('f32')",
      message(lc.param, lc.arange(3)))
  end)

  it("gives leaves that share storage with the tensor, and names", function()
    local x = lc.zeros(2)
    local w = lc.param(x, "scores")
    w:fill_(4)
    assert.same({ 4, 4 }, x:totable())
    assert.equal("scores", w.name)
    assert.is_false(x.requires_grad)
    assert.is_true(x:requires_grad_().requires_grad)
    assert.is_false(x:requires_grad_(false).requires_grad)
  end)
end)

describe("a gradient", function()
  local inf, nan = math.huge, 0 / 0

  it("is that of the activations a layer saw, changed in place or not", function()
    local x, w = lc.param(lc.tensor { { 1, 2 } }), lc.param(lc.tensor { { 1, 1 } })
    for _, factor in ipairs { 1, 2 } do
      local h = x:linear(lc.tensor { { 1, 0 }, { 0, 1 } }, nil, { act = "relu" })
      if factor ~= 1 then h:detach():mul_(factor) end
      w.grad = nil
      h:linear(w):sum():backward()
      assert.same({ { factor, 2 * factor } }, w.grad:totable())
    end
  end)

  it("may be the seed of a pass that adds into it", function()
    local a, b = lc.param(lc.tensor { 1, 2 }), lc.param(lc.tensor { 3, 4 })
    a:sum():backward();
    (a + b):backward(a.grad)
    assert.same({ 2, 2 }, a.grad:totable())
    assert.same({ 1, 1 }, b.grad:totable())
  end)

  it("of std is 0 where all numbers are equal", function()
    local x = lc.param(lc.tensor { { 2, 2 }, { 1, 3 } })
    local y = x:std(2, { correction = 0 })
    assert.same({ 0, 1 }, y:totable())
    y:sum():backward()
    assert.same({ { 0, 0 }, { -0.5, 0.5 } }, x.grad:totable())
  end)

  it("of a power has the precision of the result, whatever its operands'", function()
    local a = lc.param(lc.tensor({ 2 }, { dtype = "f64" }));
    (a ^ lc.tensor { 0.1 }):sum():backward()
    local b = lc.tensor { 0.1 }:item()
    assert.near(b * 2 ^ (b - 1), a.grad:item(), 1e-15)
  end)

  it("of logsumexp is NaN at an infinity and 0 beside it; 0 where nothing went in", function()
    local x = lc.param(lc.tensor { { 1, inf }, { -inf, -inf }, { 2, -inf } })
    x:logsumexp(2):sum():backward()
    local g = x.grad:totable()
    assert.equal(0, g[1][1])
    assert.is_true(g[1][2] ~= g[1][2])
    assert.same({ { 0, 0 }, { 1, 0 } }, { g[2], g[3] })
  end)

  it("passes where a NaN went through relu, a fused relu, minimum or maximum", function()
    local x, one = lc.param(lc.tensor { { nan, 1 } }), lc.tensor { { 0, 0 } }
    for name, y in pairs {
      relu = x:relu(), minimum = x:minimum(one), maximum = x:maximum(one),
      fused = x:linear(lc.tensor { { 1, 0 }, { 0, 1 } }, lc.tensor { nan, 0 }, { act = "relu" }),
    } do
      x.grad = nil
      y:sum():backward()
      assert.equal(1, x.grad:totable()[1][1], name)
    end
  end)
end)

describe("finite differences agree for", function()
  -- name -> {function of the inputs, shapes of the inputs}
  local cases = {
    ["arithmetic with broadcasting"] = {
      function(a, b) return (a * b - b / (a:square() + 1)) ^ 2 end, { 3, 4 }, { 4 },
    },
    ["numbers on either side"] = { function(a) return 2 - 3 * a / 4 + (1 + a:square()) ^ 1.5 end, { 3 } },
    ["views"] = { function(a) return a { { 1, 3, 2 }, {}, 2 }:t() * a[2]:diagonal():sum() end, { 3, 2, 2 } },
    ["a diagonal off the middle"] = { function(a) return a:t():diagonal(-1):square() end, { 3, 4 } },
    ["reductions over several dimensions"] = {
      function(a) return a:var({ 1, 3 }):sqrt() + a:mean { 1, 3 } * a:norm({ 3, 1 }) end, { 2, 3, 2 },
    },
    ["softmax over a middle dimension"] = { function(a) return a:softmax(2) * a:log_softmax(1) end, { 2, 3, 2 } },
    ["norms"] = { function(a, w) return a:layer_norm(w, w * 2) + a:rms_norm(w) end, { 2, 4 }, { 4 } },
    ["products"] = {
      function(a, b, v) return a:matmul(b):matmul(v) + a:linear(b:t(), nil, { act = "gelu" }):matmul(v) end,
      { 2, 3 }, { 3, 4 }, { 4 },
    },
    ["outer, dot and diag"] = { function(a, b) return a:outer(b):matmul(b:diag()) * a:dot(a) end, { 3 }, { 3 } },
    ["eigenvalues and eigenvectors"] = {
      function(a, w)
        local values, vectors = (a + a:transpose(2, 3)):eigh()
        return (vectors * w):sum() + (values * values * values):sum()
      end, { 2, 4, 4 }, { 2, 4, 4 },
    },
    ["selection"] = {
      function(a, b) return lc.cat { a:index { 1, 1, 0 }, b:masked_fill(b:gt(0), 2), lc.where(a:lt(b), a, b) } end,
      { 2, 3 }, { 2, 3 },
    },
    ["a mask's entries"] = { function(a) return a:index(lc.tensor { true, false, true }):square() end, { 3, 2 } },
    ["gather, scatter, stack and flip"] = {
      function(a, b)
        local ids = lc.tensor({ { 1, 0 }, { 2, 2 } }, { dtype = "i64" })
        return lc.stack({ a:gather(2, ids), a:scatter_add(2, ids, b):flip(2) { {}, { 1, 2 } } }, 1)
      end, { 2, 3 }, { 2, 2 },
    },
    ["rotary"] = {
      function(x) return x:rotary({ 3, 0 }, lc.tensor({ 1, 0.3 }, { dtype = "f64" }), { scale = 1.2 }) end,
      { 2, 2, 3, 5 },
    },
    ["attention"] = {
      function(q, k, v) return lc.attention(q, k, v, { causal = true, scale = 0.7 }) end,
      { 1, 3, 4, 2 }, { 1, 3, 2, 2 }, { 1, 3, 2, 2 },
    },
    ["cross-entropy over leading dimensions"] = {
      function(a) return a:cross_entropy { { 1, -100 }, { 0, 2 } } end, { 2, 2, 3 },
    },
    ["an embedding"] = { function(w) return w:embedding { { 0, 2 }, { 2, 2 } }:square() end, { 3, 2 } },
  }
  for name, case in pairs(cases) do
    it(name, function()
      local inputs = {}
      for i = 2, #case do inputs[i - 1] = f64(case[i]) end
      assert.is_true(lc.gradcheck(case[1], inputs) < 1e-6)
    end)
  end

  it("and not where a gradient is wrong", function()
    assert.is_true(lc.gradcheck(function(a) return a * a:detach() end, { lc.tensor({ 2 }, { dtype = "f64" }) }) > 0.1)
  end)
end)

describe("eigenvectors of equal eigenvalues", function()
  it("have the gradient of what does not depend on how they are turned, and none else", function()
    local A = lc.param(lc.ones({ 3, 3 }, { dtype = "f64" }))
    local weight = lc.tensor({ { 1, 2, 3 }, { 4, 5, 6 }, { 7, 8, 9 } }, { dtype = "f64" })
    local _, V = A:eigh() -- 0, 0 and 3: the first two span what is orthogonal to (1, 1, 1)
    local U = V { {}, { 1, 2 } }
    ;(U:matmul(U:t()) * weight):sum():backward()
    local wanted = lc.tensor({ { 4, 2, 0 }, { 2, 0, -2 }, { 0, -2, -4 } }, { dtype = "f64" }) / 3
    assert.is_true((A.grad - wanted):abs():max():item() < 1e-12)
    for _, dtype in ipairs { "f32", "f64" } do
      local R = lc.randn({ 6, 2 }, { dtype = dtype })
      local gram = lc.param(R:matmul(R:t()))
      local _, vectors = gram:eigh()
      ;(vectors * vectors * vectors):sum():backward()
      assert.is_true(gram.grad:abs():max():item() < 100) -- 1e7 and more if rounding told them apart
    end
  end)
end)

describe("lc.gradcheck", function()
  it("passes errors on, and wants f64", function()
    local kept = { "kept" }
    local ok, err = pcall(lc.gradcheck, function() error(kept) end, { f64 { 2 } })
    assert.is_false(ok)
    assert.equal(kept, err)
    assert.matches("not an f64 leaf", message(lc.gradcheck, function(a) return a end, { lc.zeros(2) }))
    assert.equal("gradcheck: the function must return a tensor, got 3",
      message(lc.gradcheck, function() return 3 end, { f64 { 2 } }))
  end)
end)

describe("memory of graphs", function()
  it("is given back, through backward or without", function()
    local test = require "lacuna.core.test"
    local w = lc.param(lc.randn { 8, 8 })
    local function work(finish)
      local y = w
      for _ = 1, 5 do y = y:matmul(w):tanh() end
      if finish then
        y:sum():backward()
        w.grad = nil
      end
    end
    work(true)
    collectgarbage()
    local before = test.live()
    for i = 1, 6 do work(i % 2 == 0) end
    collectgarbage()
    assert.equal(before, (test.live()))
  end)
end)
