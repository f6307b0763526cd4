-- Training: the laws of a step, groups, schedules, skipping.

local files = require "lacuna.core.files"
local lc = require "lacuna"
local tiny = dofile "tests/tiny.lua"
local temporary = dofile "tests/temporary.lua"

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

describe("PyTorch's trajectory", function()
  local expected = lc.io.open "tests/golden/train/expected.safetensors"
  local ids, labels = expected.ids, expected.labels
  local batches = {}
  for i = 1, 40 do batches[i] = { ids = ids[i], labels = labels[i] } end

  local settings = {
    adamw = { lr = 1e-2, betas = { 0.9, 0.95 }, eps = 1e-6, weight_decay = 0.1 },
    sgd = { optimizer = "sgd", lr = 1e-1, momentum = 0.9, weight_decay = 0.01 },
  }
  for name, options in pairs(settings) do
    it("of 20 steps is followed by " .. name, function()
      options.steps, options.accumulate, options.warmup, options.lr_schedule = 20, 2, 3, "linear"
      local model = lc.load "tests/golden/train"
      local losses, norms = expected[name .. ".losses"]:totable(), expected[name .. ".norms"]:totable()
      for t in lc.steps(model, batches, options) do
        assert.near(losses[t.step], t.loss, 1e-4 * math.abs(losses[t.step]))
        assert.near(norms[t.step], t.grad_norm, 1e-4 * norms[t.step])
      end
      for parameter, p in pairs(model:parameters()) do
        local want = expected[name .. ".final." .. parameter]
        local got = p:detach()
        if parameter:find "c_attn.bias$" then -- the key's bias has no gradient but rounding
          local keys = { { 1, 15 }, { 31, 45 } }
          for _, range in ipairs(keys) do
            local a, b = got { range }, want { range }
            assert.is_true((a - b):abs():max():item() <= 1e-4 * b:abs():max():item())
          end
        else
          local gap, scale = (got - want):abs():max():item(), want:abs():max():item()
          assert.is_true(gap <= 1e-4 * scale, ("%s: %g of %g"):format(parameter, gap, scale))
        end
      end
    end)
  end
end)

describe("a step", function()
  it("of n micro-batches of b is one batch of n*b", function()
    local micro = tiny.batches(6, 2, 11)
    local whole = { tiny.join { micro[1], micro[2], micro[3] }, tiny.join { micro[4], micro[5], micro[6] } }
    for _, optimizer in ipairs { "sgd", "adamw" } do
      local options = { steps = 4, optimizer = optimizer, lr = 1e-2, eps = optimizer == "adamw" and 1e-4 or nil }
      local a, one = train(options, { seed = 3 }, whole)
      options.accumulate = 3
      local b, three = train(options, { seed = 3 }, micro)
      assert.near(one.loss, three.loss, 1e-5)
      assert.is_true(tiny.difference(tiny.weights(b), tiny.weights(a)) < 1e-4)
      assert.equal(one.tokens, three.tokens)
    end
  end)

  it("weighs micro-batches by their labels through an objective in Lua too", function()
    local micro = tiny.batches(6, 2, 11)
    local options = { steps = 4, lr = 1e-2, accumulate = 3, eps = 1e-4 }
    local a, causal = train(options, nil, micro)
    options.objective = function(model, batch) return model:loss(batch, { train = true }) end
    local b, by_hand = train(options, nil, micro)
    assert.near(causal.loss, by_hand.loss, 1e-5)
    assert.is_true(tiny.difference(tiny.weights(b), tiny.weights(a)) < 1e-4)
  end)

  it("takes the count that an objective returns", function()
    local micro = tiny.batches(2, 2, 11)
    local counts = { 3, 1 }
    local model, single = tiny.gpt2(), {}
    for i = 1, 2 do single[i] = model:loss(micro[i]):item() end
    local loss
    local n = 0
    for t in lc.steps(model, micro, { steps = 1, accumulate = 2, lr = 0, weight_decay = 0,
      objective = function(m, batch)
        n = n + 1
        return m:loss(batch), counts[n]
      end }) do
      loss = t.loss
    end
    assert.near((3 * single[1] + single[2]) / 4, loss, 1e-5)
  end)

  it("repeats bit for bit, at one thread and at two", function()
    local results, set_threads = {}, require("lacuna.core.system").threads
    local before = set_threads()
    for i, threads in ipairs { 1, 2, 2 } do
      set_threads(threads)
      local model = train({ steps = 5, accumulate = 2, lr = 1e-2 }, { resid_pdrop = 0.1, embd_pdrop = 0.1 })
      results[i] = tiny.weights(model)
    end
    set_threads(before)
    assert.same(results[1], results[2])
    assert.same(results[2], results[3])
  end)

  it("sees the weights of the step before until t:update()", function()
    local model = tiny.gpt2()
    local batches = tiny.batches(3, 2, 11)
    local before = model:loss(batches[1]):item()
    for t in lc.steps(model, batches, { steps = 1, lr = 1e-1 }) do
      assert.equal(before, model:loss(batches[1]):item())
      t:backward()
      assert.equal(before, model:loss(batches[1]):item())
      t:update()
      assert.not_equal(before, model:loss(batches[1]):item())
    end
  end)

  it("is dropped by break, return and error, with dropout's streams", function()
    local batches = tiny.batches(6, 2, 11)
    local function leave(how)
      local model = tiny.gpt2 { resid_pdrop = 0.2 }
      local function body()
        for t in lc.steps(model, batches, { steps = 6, lr = 1e-2 }) do
          if t.step == 4 then
            t:backward()
            if how == "break" then break end
            if how == "return" then return end
            error "stop"
          end
        end
      end
      pcall(body)
      assert.is_nil(model:parameter("transformer.wte.weight").grad)
      lc.train(model, batches, { steps = 6, start = 3, lr = 1e-2 })
      return tiny.weights(model)
    end
    local whole = tiny.gpt2 { resid_pdrop = 0.2 }
    lc.train(whole, batches, { steps = 3, lr = 1e-2 })
    lc.train(whole, batches, { steps = 6, start = 3, lr = 1e-2 })
    for _, how in ipairs { "break", "return", "error" } do assert.same(tiny.weights(whole), leave(how)) end
  end)

  it("is the same whether or not the body evaluates, copies, saves and trains another model in its middle", function()
    local batches, path = tiny.batches(4, 2, 11), temporary()
    local function weights(look)
      local model = tiny.gpt2 { resid_pdrop = 0.2 }
      for t in lc.steps(model, batches, { steps = 4, accumulate = 2, lr = 1e-2 }) do
        if look then
          local before = model:loss(batches[1]):item()
          if t.step % 2 == 0 then t:backward() end
          local copy = model:clone()
          model:save(path)
          for _, other in ipairs { model, copy, lc.load(path) } do
            assert.equal(before, other:loss(batches[1]):item())
          end
          model:perplexity { batches[2] }
          lc.train(copy, batches, { steps = 1 })
        end
      end
      return tiny.weights(model)
    end
    assert.same(weights(false), weights(true))
    files.remove_tree(path)
  end)

  it("that is not updated refuses what would change its weights or its gradients", function()
    local model, batches = tiny.gpt2(), tiny.batches(2, 2, 11)
    local before = model:snapshot()
    local prune = function() return lc.prune.magnitude(model:linears(), { sparsity = 0.5 }) end
    for t in lc.steps(model, batches, { steps = 1, batch = 2 }) do
      t:backward()
      local refusal = message(lc.train, model, batches, { steps = 1 })
      assert.matches("another training loop has a step of this model", refusal, 1, true)
      assert.matches("prune after t:update()", message(prune), 1, true)
      t:update()
      prune()
    end
    assert.equal(0, lc.mask.of(model):violations(model))
    model:restore(before)
    pcall(function() for _ in lc.steps(model, batches, { steps = 2 }) do error "enough" end end)
    prune() -- a dropped step is over
  end)

  it("is dropped when its loop was abandoned and nothing refers to it any more", function()
    local model, batches = tiny.gpt2(), tiny.batches(2, 2, 11)
    local before = tiny.weights(model)
    local advance, _, _, closing = lc.steps(model, batches, { steps = 2 })
    assert.equal(1, advance().step)
    local refusal = message(lc.train, model, batches, { steps = 1 })
    assert.matches("close the fourth value of lc.steps", refusal, 1, true)
    assert.same(before, tiny.weights(model))
    getmetatable(closing).__close(closing)
    lc.train(model, batches, { steps = 1 })
    do
      local next_step = lc.steps(model, batches, { steps = 2 })
      next_step()
    end
    assert.equal(1, lc.train(model, batches, { steps = 1 }).steps)
  end)

  it("counts its multiply-adds, the last backward pass included", function()
    local model, batches = tiny.gpt2(), tiny.batches(1, 2, 11)
    local counts = {}
    for t in lc.steps(model, batches, { steps = 2 }) do
      if t.step == 1 then counts[1] = t.macs end
      if t.step == 2 then
        t:update()
        counts[2] = t.macs
      end
    end
    assert.equal(counts[1], counts[2])
  end)

  --- The counts of one step on a fresh model; `prepare` changes it, `body` runs inside the step.
  local function counted(batches, prepare, body)
    local model, macs, dense = tiny.gpt2(), nil, nil
    if prepare then prepare(model) end
    for t in lc.steps(model, batches, { steps = 1 }) do
      if body then body(t, model) end
      macs, dense = t.macs, t.dense_macs
    end
    return macs, dense
  end

  -- Weights in the linear layers of one block, and the multiply-adds of one pass through the head, per token.
  local block, head = 15 * 45 + 15 * 15 + 2 * 15 * 60, 15 * 53
  local full = { { ids = tiny.batches(1, 2, 11)[1].ids } }

  it("counts as dense what it leaves out of frozen and skipped parameters", function()
    local macs, dense = counted(full)
    assert.equal(dense, macs)
    local function half(model) return model:blocks()[2]:linears() end
    local frozen, dense_frozen = counted(full, function(model) model:freeze(half(model)) end)
    assert.equal(dense, dense_frozen)
    assert.equal(22 * block, macs - frozen)
    local skipped, dense_skipped = counted(full, nil, function(t, model) t:skip(half(model)) end)
    assert.same({ frozen, dense }, { skipped, dense_skipped })
  end)

  it("counts as dense the whole backward pass of what lies below the first trained parameter", function()
    local macs, dense = counted(full)
    for _, recompute in ipairs { false, true } do
      local frozen, dense_frozen = counted(full, function(model)
        model.recompute = recompute
        model:freeze()
        model:unfreeze "transformer.ln_f.*"
      end)
      assert.equal(dense, dense_frozen)
      -- dX and dW of two blocks, and five products of each pair of tokens that attend, in three heads of width 5.
      assert.equal(2 * (22 * 2 * block + 5 * 2 * 66 * 15), macs - frozen)
    end
  end)

  it("counts as dense the head's products at tokens without a label", function()
    local macs, dense = counted(full)
    local labels = { {}, {} }
    for i = 1, 11 do labels[1][i], labels[2][i] = -100, i > 8 and 1 or -100 end
    local few, dense_few = counted { { ids = full[1].ids, labels = labels } }
    assert.equal(dense, dense_few)
    assert.equal(3 * (20 - 3) * head, macs - few)
  end)

  it("has the counts of a reused gradient's products: forward 1, backward twice the share kept", function()
    local reuse = 0.75
    local left_out = 0
    -- Products as sums, which the engine does not count, so that the function says them itself.
    local function product(a, b) return (a:unsqueeze(2) * b:unsqueeze(1)):sum(3) end -- a b^T
    local reusing = lc.func {
      forward = function(ctx, x, w, b)
        ctx:save(x, w)
        local rows = x:reshape { -1, w.shape[2] }
        ctx:macs(rows.shape[1] * w:numel())
        return (product(rows, w) + b):reshape { x.shape[1], x.shape[2], w.shape[1] }
      end,
      backward = function(ctx, g)
        local x, w = ctx:saved()
        local rows, dy = x:reshape { -1, w.shape[2] }, g:reshape { -1, w.shape[1] }
        local kept = dy:numel() - math.floor(reuse * dy:numel())
        dy = dy * dy:abs():keep(kept, { scope = "all" })
        ctx:macs(2 * kept * w.shape[2], 2 * dy:numel() * w.shape[2])
        left_out = left_out + 2 * (dy:numel() - kept) * w.shape[2]
        return product(dy, w:t()):reshape(x.shape), product(dy:t(), rows:t()), dy:sum(1)
      end,
    }
    local macs, dense = counted(full)
    local reused, dense_reused = counted(full, function(model)
      for _, layer in ipairs(model:linears()) do
        layer:replace(function(x, w, b) return reusing(x, w, b) end, { name = "reusing" })
      end
    end)
    assert.equal(dense, dense_reused)
    assert.equal(left_out, macs - reused)
    assert.is_true(math.abs(left_out / (2 * 3 * 22 * block) - 2 / 3 * reuse) < 1e-3)
  end)
end)

describe("a function of batches", function()
  it("that gives none is refused", function()
    for _, loop in ipairs { lc.train, function(...) for _ in lc.steps(...) do error "a step" end end } do
      local refusal = message(loop, tiny.gpt2(), function() return nil end, { steps = 3 })
      assert.matches("steps: the data is empty: its function gave no batch", refusal, 1, true)
    end
  end)

  it("may end the loop", function()
    local model, batches = tiny.gpt2(), tiny.batches(5, 2, 11)
    local result = lc.train(model, function(i) return batches[i] end, { steps = 9, accumulate = 2, lr = 1e-2 })
    assert.equal(3, result.steps)
    local same = tiny.gpt2()
    lc.train(same, batches, { epochs = 1, steps = 9, accumulate = 2, lr = 1e-2 })
    assert.same(tiny.weights(same), tiny.weights(model))
  end)
end)

describe("a dataset", function()
  local words = {}
  for i = 1, 400 do words[i] = ("abcdefgh"):rep(3):sub(i % 8 + 1, i % 8 + 1 + i % 6) end
  local data = lc.dataset { tokenizer = lc.tokenizer.bytes(), text = table.concat(words, " "), length = 16 }
  local function fresh() return tiny.gpt2 { vocab_size = 257 } end

  it("is read in whole epochs: a step mixes none", function()
    local examples = #data
    local batches = (examples + 2) // 3
    local per_epoch = (batches + 3) // 4
    local tokens, count = 0, 0
    for t in lc.steps(fresh(), data, { epochs = 2, batch = 3, accumulate = 4 }) do
      tokens, count = tokens + t.tokens, count + 1
      if count == per_epoch then assert.equal(16 * examples, tokens) end
    end
    assert.equal(2 * per_epoch, count)
    assert.equal(2 * 16 * examples, tokens)
  end)

  it("of n micro-batches of b is a dataset of batches of n*b", function()
    local results = {}
    for i, options in ipairs { { batch = 6 }, { batch = 2, accumulate = 3 } } do
      options.epochs, options.lr, options.optimizer, options.seed = 1.5, 0.1, "sgd", 4
      local model = fresh()
      results[i] = lc.train(model, data, options)
      results[i].weights = tiny.weights(model)
    end
    assert.equal(results[1].steps, results[2].steps)
    assert.equal(results[1].tokens, results[2].tokens)
    assert.is_true(tiny.difference(results[2].weights, results[1].weights) < 1e-4)
  end)

  it("ends at the earlier of steps and epochs, and goes on counting from start", function()
    assert.equal(2, lc.train(fresh(), data, { steps = 2, epochs = 50 }).steps)
    local whole, first = fresh(), fresh()
    lc.train(whole, data, { steps = 6, optimizer = "sgd", lr = 0.1 })
    lc.train(first, data, { steps = 3, optimizer = "sgd", lr = 0.1 })
    local result = lc.train(first, data, { steps = 6, start = 3, optimizer = "sgd", lr = 0.1 })
    assert.equal(6, result.steps)
    assert.same(tiny.weights(whole), tiny.weights(first))
  end)

  it("is what evaluation measures, like the list of its batches", function()
    local seen = {}
    for i, eval in ipairs { data, { data[1], data[2] } } do
      local model = fresh()
      seen[i] = lc.train(model, data, { steps = 1, eval = eval }).eval
      local sum, n = 0, 0
      for k = 1, i == 1 and #data or 2 do
        sum, n = sum + model:loss(data[k]):item(), n + 1
      end
      assert.near(sum / n, seen[i], 1e-5)
    end
  end)
end)

describe("held masks", function()
  it("survive momentum, decay and accumulation", function()
    for _, optimizer in ipairs { "sgd", "adamw" } do
      for _, accumulate in ipairs { 1, 3 } do
        local model = tiny.gpt2()
        local mask = lc.prune.magnitude(model:linears(), { sparsity = 0.6 })
        lc.train(model, tiny.batches(6, 2, 11), { steps = 12, optimizer = optimizer, lr = 1e-2, accumulate = accumulate,
          momentum = optimizer == "sgd" and 0.9 or nil, weight_decay = 0.1 })
        assert.equal(0, mask:violations(model))
        assert.near(0.6, model:sparsity(), 0.01)
      end
    end
  end)

  it("leave pruned gradients out of the norm", function()
    local model = tiny.gpt2()
    lc.prune.magnitude(model:linears(), { sparsity = 0.5 })
    for t in lc.steps(model, tiny.batches(1, 2, 11), { steps = 1 }) do
      t:backward()
      local sum = 0
      for _, p in ipairs(model:parameters()) do
        local g, w = p.grad, p:detach()
        if p.ndim == 2 and p.name:find "%.h%." then g = g * w:ne(0) end
        sum = sum + (g * g):sum():item()
      end
      assert.near(math.sqrt(sum), t.grad_norm, 1e-5)
    end
  end)
end)

describe("what is not trained", function()
  local batches = tiny.batches(4, 2, 11)
  local plain = { steps = 4, optimizer = "sgd", lr = 1e-2, weight_decay = 0, clip = false }

  it("is the same frozen, skipped or with its gradient zeroed, under plain SGD", function()
    local frozen = tiny.gpt2()
    frozen:freeze "mlp"
    lc.train(frozen, batches, plain)
    local results = { tiny.weights(frozen) }
    for _, how in ipairs { "before", "after", "zero" } do
      local model = tiny.gpt2()
      for t in lc.steps(model, batches, plain) do
        if how ~= "before" then t:backward() end
        if how == "zero" then
          for _, p in ipairs(model:parameters "mlp") do p.grad:zero_() end
        else
          t:skip(model:parameters "mlp")
        end
      end
      results[#results + 1] = tiny.weights(model)
    end
    for i = 2, #results do assert.same(results[1], results[i]) end
  end)

  it("is nothing where the share that is skipped is 0", function()
    local want = tiny.gpt2()
    lc.train(want, batches, plain)
    local model = tiny.gpt2()
    for t in lc.steps(model, batches, plain) do t:skip(lc.rank(model:parameters(), "weight_l2"):top(0)) end
    assert.same(tiny.weights(want), tiny.weights(model))
  end)

  it("is not computed when it is skipped before backward", function()
    local model = tiny.gpt2()
    local macs = {}
    for t in lc.steps(model, { batches[1] }, { steps = 2 }) do
      if t.step == 2 then t:skip(model:linears "mlp") end
      macs[t.step] = t.macs
      assert.equal(t.step == 2, model:linears("mlp")[1].weight.grad == nil)
    end
    -- Two layers of 15 x 60 in each of two blocks, on 2 rows of 11 tokens; the weight gradient is a third of them.
    assert.equal(4 * 15 * 60 * 22, macs[1] - macs[2])
  end)

  it("keeps weight and moments with mode freeze, updates them with a zero gradient with mode grad", function()
    local name = "transformer.h.0.mlp.c_fc.weight"
    local changed = {}
    for _, mode in ipairs { "freeze", "grad" } do
      local model = tiny.gpt2()
      local before
      for t in lc.steps(model, batches, { steps = 3, lr = 1e-2 }) do
        if t.step == 3 then
          before = model:parameter(name):detach():flatten():totable()
          t:skip({ model:parameter(name) }, { mode = mode })
        end
      end
      local after = model:parameter(name):detach():flatten():totable()
      changed[mode] = false
      for i, value in ipairs(after) do changed[mode] = changed[mode] or value ~= before[i] end
    end
    assert.same({ freeze = false, grad = true }, changed)
  end)

  it("cannot be chosen after the update, nor in another loop's step", function()
    local model = tiny.gpt2()
    local old
    for t in lc.steps(model, batches, { steps = 2 }) do
      if t.step == 1 then
        t:update()
        assert.matches("t:skip comes before t:update%(%); step 1 is updated", message(t.skip, t, model:linears()))
        old = t
      else
        assert.matches("step 1 is over", message(old.skip, old, model:linears()))
        assert.matches("mode must be 'freeze' or 'grad', got 'frozen'",
          message(t.skip, t, model:linears(), { mode = "frozen" }))
      end
    end
  end)

  it("builds no graph when everything is frozen", function()
    local model = tiny.gpt2()
    model:freeze()
    local before = tiny.weights(model)
    local result = lc.train(model, batches, { steps = 2 })
    assert.same(before, tiny.weights(model))
    assert.is_true(result.loss > 0)
  end)
end)

describe("groups", function()
  local batches = tiny.batches(4, 2, 11)

  it("give tensors their own rate, the first match winning", function()
    local model = tiny.gpt2()
    local before = tiny.weights(model)
    lc.train(model, batches, { steps = 3, lr = 1e-2, weight_decay = 0, groups = {
      { params = model:linears "mlp.up", lr = 0 }, { params = model:linears "mlp", lr = 1e-3 } } })
    local after = tiny.weights(model)
    assert.same(before["transformer.h.0.mlp.c_fc.weight"], after["transformer.h.0.mlp.c_fc.weight"])
    assert.not_same(before["transformer.h.0.mlp.c_proj.weight"], after["transformer.h.0.mlp.c_proj.weight"])
  end)

  it("train extra leaves", function()
    local model = tiny.gpt2()
    local scale = lc.param(lc.tensor { 2 })
    lc.train(model, batches, { steps = 3, optimizer = "sgd", lr = 0.1, params = { scale },
      objective = function(m, batch) return m:loss(batch, { train = true }) + (scale * scale):sum() end })
    assert.is_true(math.abs(scale:item()) < 2)
  end)
end)

describe("schedules", function()
  it("switch at the exact optimizer step, with accumulation too", function()
    for _, accumulate in ipairs { 1, 3 } do
      local model = tiny.gpt2()
      local s = lc.schedule { { 0.0, 0 }, { 0.9, 0.25 } }
      local seen = {}
      for t in lc.steps(model, tiny.batches(6, 1, 9), { steps = 12, accumulate = accumulate, lr_schedule = s }) do
        seen[t.step] = s:at(t.progress)
        assert.equal(5e-5 * seen[t.step], t.lr)
      end
      for t = 1, 12 do assert.equal(t >= 4 and 0.9 or 0.0, seen[t]) end
    end
  end)

  it("warm up from 0 as transformers does", function()
    local rates = {}
    local options = { steps = 5, lr = 1e-3, warmup = 2, lr_schedule = "linear" }
    for t in lc.steps(tiny.gpt2(), tiny.batches(2, 1, 9), options) do
      rates[t.step] = t.lr
    end
    local want = { 0, 0.5e-3, 1e-3, 2e-3 / 3, 1e-3 / 3 }
    for t = 1, 5 do assert.near(want[t], rates[t], 1e-15) end
  end)
end)
