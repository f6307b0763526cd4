-- Where training stops: what it refuses, and losses that are none.

local lc = require "lacuna"
local tiny = dofile "tests/tiny.lua"

--- The message of an error that fn must raise.
local function message(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  return tostring(err)
end

describe("training stops", function()
  local batches = tiny.batches(2, 2, 11)

  it("at a loss that is not finite, naming the step and the tensor", function()
    local model = tiny.gpt2()
    model:parameter("transformer.h.1.mlp.c_fc.weight"):detach():fill_(0 / 0)
    local text = message(lc.train, model, batches, { steps = 3 })
    assert.matches("step 1: the loss is not finite %(nan%)", text)
    assert.matches("transformer.h.1.mlp.c_fc.weight", text, 1, true)
  end)

  it("at a gradient that is not finite, before anything has changed", function()
    local model = tiny.gpt2()
    local before = tiny.weights(model)
    local text = message(function()
      for t in lc.steps(model, batches, { steps = 3 }) do
        t:backward()
        model:parameter("transformer.ln_f.bias").grad:fill_(1 / 0)
      end
    end)
    assert.matches("step 1: the gradient of transformer.ln_f.bias is not finite", text, 1, true)
    assert.same(before, tiny.weights(model))
  end)

  it("at a loss that trains nothing", function()
    for _, objective in ipairs {
      function() return lc.tensor(1) end,
      function(model, batch) return model:loss(batch):detach() end,
      function(model, batch) return lc.no_grad(model.loss, model, batch) end,
    } do
      local model = tiny.gpt2()
      local before = tiny.weights(model)
      assert.matches("step 1: the loss has no gradient, so nothing would be trained",
        message(lc.train, model, batches, { steps = 1, objective = objective }))
      assert.same(before, tiny.weights(model))
    end
  end)

  it("at options that make no sense", function()
    local model = tiny.gpt2()
    assert.matches("unknown option 'stepz' %(did you mean 'steps'%?%)",
      message(lc.train, model, batches, { stepz = 3 }))
    for _, case in ipairs {
      { "steps: option 'momentum' belongs to sgd, but the optimizer is adamw: drop it, or give optimizer = 'sgd'",
        { momentum = 0.9 } },
      { "steps: option 'betas' belongs to adamw, but the optimizer is sgd: drop it, or give optimizer = 'adamw'",
        { optimizer = "sgd", betas = { 0.9, 0.99 } } },
      { "steps: option 'eps' belongs to adamw, but the optimizer is sgd", { optimizer = "sgd", eps = 1e-6 } },
      { "groups: option 'momentum' belongs to sgd, but the optimizer is adamw",
        { groups = { { params = model:linears(), momentum = 0.9 } } } },
    } do
      case[2].steps = 1
      assert.matches(case[1], message(lc.train, model, batches, case[2]), 1, true)
    end
    assert.matches("groups: option 'optimizer' must be 'adamw' or 'sgd', got the string 'sgdd'",
      message(lc.train, model, batches, {
        steps = 1, momentum = 0.9, groups = { { params = model:linears(), optimizer = "sgdd" } },
      }), 1, true)
    -- What a group of the other optimizer takes from the table is read.
    lc.train(model, batches, { steps = 1, momentum = 0.9, progress = false,
      groups = { { params = model:linears(), optimizer = "sgd" } } })
    assert.matches("option 'log_every' needs a run", message(lc.train, model, batches, { steps = 1, log_every = 1 }))
    assert.matches("option 'eval_every' needs eval", message(lc.train, model, batches, { steps = 1, eval_every = 1 }))
    for _, eval in ipairs { 5, "x", {} } do -- before the first step, not after the last
      assert.matches("eval must be a dataset, a list of batches, or a function, got",
        message(lc.train, model, function() error "a step" end, { steps = 1, eval = eval }))
    end
    for _, leaf in ipairs { lc.tensor { 1 }, lc.param(lc.tensor { 1 }) * 2 } do
      assert.matches("is not trained: give parameters, or leaves made by lc.param",
        message(lc.train, model, batches, { steps = 1, params = { leaf } }))
    end
    assert.matches("give steps or epochs", message(lc.train, model, batches, {}))
    assert.matches("objective must be 'causal' or function",
      message(lc.train, model, batches, { steps = 1, objective = "mlm" }))
    assert.matches("steps: option 'lr_schedule' must be 'constant', .* or a schedule, got a function",
      message(lc.train, model, batches, { steps = 1, lr_schedule = print }))
    assert.matches("data must be a dataset, .*, got a model", message(lc.train, model, model, { steps = 1 }))
    assert.matches("batch: ids must be integers, got a tensor of f32",
      message(lc.train, model, { { ids = lc.ones { 1, 3 } } }, { steps = 1 }))
    assert.matches("batch: labels must be a tensor of integers or a list of them, got the string 'x'",
      message(lc.train, model, { { ids = { { 1, 2 } }, labels = "x" } }, { steps = 1 }))
    assert.matches("optim.sgd: params is empty", message(lc.optim.sgd, { params = {}, lr = 1 }))
    assert.matches("the list of batches is empty", message(lc.train, model, {}, { steps = 1 }))
    assert.matches("batch 1 must be a table", message(lc.train, model, { 5 }, { steps = 1 }))
    assert.matches("clip", message(lc.train, model, batches, { steps = 1, clip = -1 }))
    assert.matches("no token of its batches has a label",
      message(lc.train, model, { { ids = { { 1, 2 } }, labels = { { -100, -100 } } } }, { steps = 1 }))
  end)
end)
