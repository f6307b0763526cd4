-- Loops written by hand with lc.optim, ranks, and the progress bar.

local lc = require "lacuna"
local tiny = dofile "tests/tiny.lua"

local function train(options, config, batches)
  local model = tiny.gpt2(config)
  local result = lc.train(model, batches or tiny.batches(6, 2, 11), options)
  return model, result
end

--- The message of an error that fn must raise.
local function message(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  return tostring(err)
end

describe("loops by hand", function()
  it("are what lc.train does", function()
    local batches = tiny.batches(4, 2, 11)
    local a = train({ steps = 4, lr = 1e-2, clip = 1.0 }, nil, batches)
    local b = tiny.gpt2()
    local optimizer = lc.optim.adamw { params = b:parameters(), lr = 1e-2 }
    assert.equal(("adamw of %d tensors, lr 0.01"):format(#b:parameters()), tostring(optimizer))
    for _, batch in ipairs(batches) do
      b:loss(batch, { train = true }):backward()
      lc.clip(b:parameters(), 1.0)
      optimizer:step()
      assert.is_nil(b:parameter("transformer.wte.weight").grad)
    end
    assert.is_true(tiny.difference(tiny.weights(b), tiny.weights(a)) < 1e-5)
  end)

  it("keep held masks", function()
    local model = tiny.gpt2()
    local mask = lc.prune.magnitude(model:linears(), { sparsity = 0.5 })
    local optimizer = lc.optim.sgd { params = model:linears(), lr = 1e-2, momentum = 0.9 }
    for _, batch in ipairs(tiny.batches(4, 2, 11)) do
      model:loss(batch, { train = true }):backward()
      optimizer:step()
      assert.equal(0, mask:violations(model))
    end
  end)
end)

describe("lc.rank", function()
  it("orders by a measure, and takes floor(share n) from either end", function()
    local model = tiny.gpt2()
    local ranking = lc.rank(model:linears(), "weight_l2")
    local top, bottom = ranking:top(0.5), ranking:bottom(0.25)
    assert.equal(4, #top)
    assert.equal(2, #bottom)
    assert.equal(0, #ranking:top(0))
    local function norm(layer) return layer.weight:detach():norm():item() end
    for i = 2, #top do assert.is_true(norm(top[i - 1]) >= norm(top[i])) end
    assert.is_true(norm(bottom[1]) <= norm(bottom[2]) and norm(bottom[2]) <= norm(top[#top]))
    assert.matches("did you mean 'weight_l2'", message(lc.rank, model:linears(), "weight_l22"))
  end)

  it("refuses gradients that are not there, and NaN", function()
    local model = tiny.gpt2()
    assert.matches("rank: none of these has a gradient; call t:backward() or loss:backward() before",
      message(lc.rank, model:linears(), "grad_l2"), 1, true)
    model:loss({ ids = { { 1, 2, 3 } } }):backward()
    assert.equal(28, #lc.rank(model:parameters(), "grad_l2"):top(1))
    assert.matches("rank: the number of transformer.h.0.attn.c_attn is NaN, which has no rank",
      message(lc.rank, model:linears(), function() return 0 / 0 end), 1, true)
  end)
end)

describe("a progress bar", function()
  local line = require("lacuna.progress").line

  it("is never wider than the terminal", function()
    local words = "60/60  loss 1.5460  174,715 tokens/s  0:00 left"
    assert.equal("train [" .. ("#"):rep(12) .. ("."):rep(12) .. "] " .. words, line("train", 0.5, words, 100))
    assert.equal("prune to 0.75 [#######........] " .. words, line("prune to 0.75", 0.5, words, 80))
    for columns = 1, 100 do
      for _, label in ipairs { "train", "prüfen bis 0,75", "broken \xff" } do
        local text = line(label, 0.3, words, columns)
        assert.is_true((utf8.len(text) or #text) < columns)
      end
    end
  end)
end)
