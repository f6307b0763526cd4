-- Solving for weights: ALPS, least squares on the support, swaps, and sparsity shared out between layers.

local lc = require "lacuna"
local tiny = require "tests.tiny"

local text = tiny.batches(6, 4, 17, 3)

local function wide()
  return tiny.gpt2 { n_embd = 36, n_head = 3 }
end

--- What each layer's weights and inputs are, by name: {W, H} of the dense model.
local function dense_problem(model)
  local problem = {}
  for layer, stats in lc.calibrate(model:linears(), text, { sequential = false }) do
    problem[layer.name] = { W = layer.weight:detach():clone(), H = stats.H }
  end
  return problem
end

--- A layer's squared error on the text: sum of (w - t) H (w - t)^T.
local function error_of(layer, problem)
  local p = problem[layer.name]
  local d = (layer.weight:detach() - p.W):to "f64"
  return (d:matmul(p.H) * d):sum():item()
end

--- Prunes a fresh model by `method`; gives its layers' errors by name, the model and the mask.
local function pruned(method, options, model)
  model = model or wide()
  local problem = dense_problem(model)
  local all = { sequential = false }
  for key, value in pairs(options) do all[key] = value end
  local mask
  if method == "magnitude" then
    all.sequential = nil
    mask = lc.prune.magnitude(model:linears(), all)
  else
    mask = lc.prune[method](model:linears(), text, all)
  end
  local errors = {}
  for layer_name, layer in pairs(model:linears()) do errors[layer_name] = error_of(layer, problem) end
  return errors, model, mask, problem
end

local function total(errors)
  local sum = 0
  for _, value in pairs(errors) do sum = sum + value end
  return sum
end

local function refuses(message, fn, ...)
  local ok, problem = pcall(fn, ...)
  assert.is_false(ok)
  assert.equal(message, (tostring(problem):gsub("^[^:]+:%d+: ", "")))
end

describe("lc.prune.alps", function()
  it("leaves less error than sparsegpt in every layer, and that less than magnitude", function()
    for _, how in ipairs { { sparsity = 0.5 }, { sparsity = 0.7 }, { pattern = "2:4" } } do
      local alps, sparsegpt, magnitude = pruned("alps", how), pruned("sparsegpt", how), pruned("magnitude", how)
      for name, value in pairs(alps) do
        assert.is_true(value < 0.97 * sparsegpt[name], name)
        assert.is_true(sparsegpt[name] < 0.95 * magnitude[name], name)
      end
    end
  end)

  it("prunes exactly as many as asked for, those that are held first", function()
    local _, model, first = pruned("magnitude", { sparsity = 0.3 })
    local second = lc.prune.alps(model:linears(), text, { sparsity = 0.55 })
    assert.equal(0, second:violations(model))
    assert.equal(0, first:violations(model))
    for name, layer in pairs(model:linears()) do
      local n = layer.weight:numel()
      assert.equal(math.floor(0.55 * n), n - second[layer]:sum():item(), name)
      assert.equal(0, ((~first[layer]) & second[layer]):sum():item())
    end
    local before = tiny.weights(model)
    lc.prune.alps(model:linears(), text, { sparsity = 0.4 })
    assert.same(before, tiny.weights(model))
  end)

  it("with scope 'row' prunes each row alike, and with n:m each group", function()
    local _, model, mask = pruned("alps", { sparsity = 0.5, scope = "row" })
    for _, layer in ipairs(model:linears()) do
      local kept = mask[layer]:to("i64"):sum(2)
      assert.equal(layer.weight.shape[2] // 2, kept:min():item())
      assert.equal(layer.weight.shape[2] // 2, kept:max():item())
    end
    _, model, mask = pruned("alps", { pattern = "1:4" })
    for _, layer in ipairs(model:linears()) do
      local kept = mask[layer]:to("i64"):reshape { -1, 4 }:sum(2)
      assert.equal(1, kept:min():item())
      assert.equal(1, kept:max():item())
    end
  end)

  it("gives the same bits each time, and leaves the weights alone with apply = false", function()
    local _, first = pruned("alps", { sparsity = 0.6 })
    local _, second = pruned("alps", { sparsity = 0.6 })
    assert.same(tiny.weights(first), tiny.weights(second))
    local model = wide()
    local before = tiny.weights(model)
    local mask = lc.prune.alps(model:linears(), text, { sparsity = 0.6, apply = false })
    assert.same(before, tiny.weights(model))
    assert.is_true(math.abs(mask:sparsity() - 0.6) < 1e-3)
  end)

  it("refuses what makes no sense", function()
    local layers = wide():linears()
    refuses("prune.alps: option 'rho' must be from 1e-06 to 1000000, got 0",
      lc.prune.alps, layers, text, { sparsity = 0.5, rho = 0 })
    refuses("prune.alps: option 'damp' must be from 0 to 1000000, got -1",
      lc.prune.alps, layers, text, { sparsity = 0.5, damp = -1 })
    refuses("prune.alps: sparsity 90 is not a share from 0 to 1; for 90% write 0.9",
      lc.prune.alps, layers, text, { sparsity = 90 })
    refuses("prune.alps: scope 'model' compares scores of layers, and this solves each by itself; take 'layer' or "
      .. "'row'", lc.prune.alps, layers, text, { sparsity = 0.5, scope = "model" })
    refuses("prune.alps: transformer.h.0.attn.c_attn has 36 inputs, which groups of 8 do not divide",
      lc.prune.alps, layers, text, { pattern = "4:8" })
  end)
end)

describe("swap and reconstruct", function()
  it("lower the error of any method's mask, and together the most", function()
    for _, method in ipairs { "wanda", "ria", "sparsegpt", "alps" } do
      local plain = pruned(method, { sparsity = 0.6 })
      local rebuilt, _, mask = pruned(method, { sparsity = 0.6, reconstruct = true })
      assert.is_true(math.abs(mask:sparsity() - 0.6) < 0.02)
      for name, value in pairs(plain) do assert.is_true(rebuilt[name] <= value * (1 + 1e-6), name) end
      local swapped = pruned(method, { sparsity = 0.6, swap = true })
      local both = pruned(method, { sparsity = 0.6, swap = true, reconstruct = true })
      for name, value in pairs(swapped) do
        assert.is_true(value <= plain[name] * (1 + 1e-6), name)
        assert.is_true(both[name] <= value * (1 + 1e-6), name)
      end
      if method == "wanda" then
        assert.is_true(total(swapped) < 0.9 * total(plain))
        assert.is_true(total(rebuilt) < 0.8 * total(plain))
        assert.is_true(total(both) < 0.95 * total(rebuilt))
      end
    end
  end)

  it("are functions too, towards a snapshot", function()
    local model = wide()
    local problem = dense_problem(model)
    local dense = model:snapshot()
    local layers = model:linears "mlp"
    local mask = lc.prune.magnitude(layers, { sparsity = 0.5, scope = "row" })
    local function errors()
      local sum = 0
      for _, layer in ipairs(layers) do sum = sum + error_of(layer, problem) end
      return sum
    end
    local start = errors()
    local swapped = lc.prune.swap(layers, text, { target = dense, sequential = "layer" })
    local after_swap = errors()
    assert.is_true(after_swap < start)
    assert.is_true(swapped:overlap(mask) < 1)
    assert.equal(mask:sparsity(), swapped:sparsity())
    assert.equal(0, swapped:violations(model))
    local held = lc.prune.reconstruct(layers, text, { target = dense, sequential = "layer" })
    assert.is_true(errors() < 0.8 * after_swap)
    assert.equal(1, held:overlap(swapped))
    assert.equal(0, held:violations(model))
  end)

  it("bring back nothing that an earlier round pruned, when they are given its mask", function()
    local function rounds(options)
      local model = wide()
      options.target = model:snapshot()
      local first = lc.prune.magnitude(model:linears(), { sparsity = 0.3 })
      local second = lc.prune.wanda(model:linears(), text, { sparsity = 0.6 })
      if options.held then options.held = first end
      local swapped = lc.prune.swap(model:linears(), text, options)
      assert.is_true(swapped:overlap(second) < 1)
      assert.equal(second:sparsity(), swapped:sparsity())
      return first:violations(model)
    end
    assert.is_true(rounds {} > 0)
    assert.equal(0, rounds { held = true })
    local model = wide()
    local mask = lc.prune.magnitude(model:linears(), { sparsity = 0.3 })
    refuses("prune.swap: option 'held' must be a mask, got 3", lc.prune.swap, model:linears(), text,
      { target = model:snapshot(), held = 3 })
    local small = tiny.gpt2()
    local target = small:snapshot()
    lc.prune.magnitude(small:linears(), { sparsity = 0.5 })
    refuses(("prune.swap: the held mask has (%d, %d) for transformer.h.0.attn.c_attn, whose weight is (%d, %d)"):format(
      mask[model:linears()[1]].shape[1], mask[model:linears()[1]].shape[2], small:linears()[1].outputs,
      small:linears()[1].inputs), lc.prune.swap, small:linears(), text, { target = target, held = mask })
    local other = lc.prune.magnitude(tiny.decoder("llama"):linears(), { sparsity = 0.5 })
    refuses("prune.swap: the held mask names none of these layers", lc.prune.swap, small:linears(), text,
      { target = target, held = other })
  end)

  it("end with no gradient on the support", function()
    local _, model, mask, problem = pruned("wanda", { sparsity = 0.5, reconstruct = true }, tiny.gpt2 { dtype = "f64" })
    for _, layer in ipairs(model:linears()) do
      local p = problem[layer.name]
      local gradient = (layer.weight:detach() - p.W):to("f64"):matmul(p.H) * mask[layer]
      local scale = p.W:to("f64"):matmul(p.H):abs():max():item()
      assert.is_true(gradient:abs():max():item() < 1e-5 * scale, layer.name)
    end
  end)

  it("keep an n:m pattern", function()
    local model = wide()
    local dense = model:snapshot()
    lc.prune.wanda(model:linears(), text, { pattern = "2:4", swap = true })
    local mask = lc.prune.swap(model:linears(), text, { target = dense, pattern = "2:4" })
    for _, layer in ipairs(model:linears()) do
      local kept = mask[layer]:to("i64"):reshape { -1, 4 }:sum(2)
      assert.equal(2, kept:min():item())
      assert.equal(2, kept:max():item())
    end
  end)

  it("refuse what makes no sense", function()
    local model = wide()
    local layers = model:linears()
    refuses("prune.swap: option 'target' is needed: a snapshot of the model before it was pruned: what its layers did",
      lc.prune.swap, layers, text, {})
    refuses("prune.reconstruct: option 'target' must be a snapshot, as model:snapshot() gives it, got a model",
      lc.prune.reconstruct, layers, text, { target = model })
    refuses("prune.wanda: scope 'model' ranks all layers before any is pruned; it needs sequential = false, and no "
      .. "swap or reconstruct", lc.prune.wanda, layers, text,
      { sparsity = 0.5, scope = "model", sequential = false, swap = true })
    refuses("prune.by: swap and reconstruct need data to measure errors on",
      lc.prune.by, layers, nil, function(layer) return layer.weight:abs() end, { sparsity = 0.5, swap = true })
    refuses("prune.reconstruct: the target snapshot has no transformer.h.0.attn.c_attn.weight of shape (108, 36); take "
      .. "it from this model before pruning",
      lc.prune.reconstruct, layers, text, { target = tiny.gpt2():snapshot() })
  end)
end)

describe("lc.prune.allocate", function()
  local function mean(model, targets)
    local pruned_weights, weights = 0, 0
    for name, layer in pairs(model:linears()) do
      pruned_weights = pruned_weights + targets[name] * layer.weight:numel()
      weights = weights + layer.weight:numel()
    end
    return pruned_weights / weights
  end

  it("keeps the total, however it is shared out", function()
    local model = wide()
    local function by_norm(layer, stats)
      assert.equal(6 * 4 * 17, stats.n)
      return layer.weight:norm():item()
    end
    for _, sparsity in ipairs { 0, 0.2, 0.5, 0.7, 0.95, 1 } do
      for _, by in ipairs { "owl", "uniform", by_norm } do
        for _, lambda in ipairs { 0, 0.08, 0.4 } do
          local targets = lc.prune.allocate(model:linears(), text,
            { sparsity = sparsity, by = by, lambda = lambda, M = 3 })
          assert.is_true(math.abs(mean(model, targets) - sparsity) < 1e-12)
          for _, target in pairs(targets) do assert.is_true(target >= 0 and target <= 1) end
        end
      end
    end
  end)

  it("gives a block one sparsity, the lower the more outliers it has", function()
    local model = wide()
    lc.no_grad(function()
      for _, layer in ipairs(model:blocks()[2]:linears()) do
        layer.weight:mul_(layer.weight:square())
      end
    end)
    local sums, counts, above, products = {}, {}, {}, {}
    for layer, stats in lc.calibrate(model:linears(), text, { sequential = false, H = false }) do
      local block = layer.name:match "h%.(%d)"
      local product = layer.weight:detach():abs() * stats.norm
      products[#products + 1] = { block, product }
      sums[block] = (sums[block] or 0) + product:sum():item()
      counts[block] = (counts[block] or 0) + product:numel()
    end
    for _, entry in ipairs(products) do
      local block, product = entry[1], entry[2]
      above[block] = (above[block] or 0) + product:gt(5 * sums[block] / counts[block]):sum():item()
    end
    assert.is_true(above["1"] > above["0"])
    local targets = lc.prune.allocate(model:linears(), text, { sparsity = 0.6, lambda = 0.1 })
    for name, target in pairs(targets) do
      assert.is_true(math.abs(target - (name:find "h%.1" and 0.5 or 0.7)) < 1e-9, name)
    end
  end)

  it("gives what every method takes", function()
    local data = { wanda = true, ria = true, sparsegpt = true, alps = true }
    for _, method in ipairs { "magnitude", "random", "wanda", "ria", "sparsegpt", "alps" } do
      local model = wide()
      local targets = lc.prune.allocate(model:linears(), text, { sparsity = 0.5, lambda = 0.2, M = 3 })
      if data[method] then
        lc.prune[method](model:linears(), text, { sparsity = targets })
      else
        lc.prune[method](model:linears(), { sparsity = targets })
      end
      for name, layer in pairs(model:linears()) do
        local slack = (method == "wanda" or method == "ria") and 1 / 36 or 1e-2
        assert.is_true(math.abs(layer:sparsity() - targets[name]) <= slack, method .. " " .. name)
      end
    end
  end)

  it("refuses what makes no sense", function()
    local layers = wide():linears()
    refuses("prune.allocate: sparsity 70 is not a share from 0 to 1; for 70% write 0.7",
      lc.prune.allocate, layers, text, { sparsity = 70 })
    refuses("prune.allocate: option 'by' must be 'owl', 'uniform' or a function, got the string 'own'",
      lc.prune.allocate, layers, text, { sparsity = 0.7, by = "own" })
    refuses("prune.allocate: transformer.h.0.attn.c_attn: the function must return a number, got nil",
      lc.prune.allocate, layers, text, { sparsity = 0.7, by = function() end })
    refuses("prune.allocate: transformer.h.0.attn.c_attn: its score nan is not finite",
      lc.prune.allocate, layers, text, { sparsity = 0.7, by = function() return 0 / 0 end })
  end)
end)
