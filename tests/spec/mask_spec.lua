-- The laws of masks and of pruning by score: counts, ties, scopes, patterns, what is held, the algebra, messages.

local lc = require "lacuna"

local function tiny(layers)
  return lc.model {
    family = "gpt2", vocab_size = 31, n_positions = 16, n_embd = 12, n_layer = layers or 2, n_head = 3, seed = 1,
  }
end

local function zeros(t) return t:eq(0):sum():item() end

-- The weights of a layer as a list of rows.
local function rows(layer) return layer.weight:detach():tolist() end

-- The mask of one row or list by sorting: the `pruned` smallest |w| go, of equal ones those with the higher index.
local function keep_by_sorting(weights, pruned)
  local order = {}
  for i = 1, #weights do order[i] = i end
  table.sort(order, function(a, b)
    local x, y = math.abs(weights[a]), math.abs(weights[b])
    if x ~= y then return x < y end
    return a > b
  end)
  local keep = {}
  for place, i in ipairs(order) do keep[i] = place > pruned end
  return keep
end

local function flatten(list)
  local flat = {}
  for _, row in ipairs(list) do
    for _, value in ipairs(row) do flat[#flat + 1] = value end
  end
  return flat
end

describe("layers to prune", function()
  it("may be one, or a list", function()
    local model = tiny()
    local layers = model:linears()
    local largest = lc.rank(layers, "weight_l2"):top(0.25)
    local mask = lc.prune.magnitude(largest, { sparsity = 0.5 })
    assert.equal(2, #mask)
    for _, layer in ipairs(layers) do
      local chosen = layer == largest[1] or layer == largest[2]
      assert.equal(chosen and 0.5 or 0, layer:sparsity(), layer.name)
    end
    assert.equal(1, #lc.mask.of(layers[3]))
    assert.equal(2, #lc.mask.of { layers[3], layers[1], layers[3] })
    assert.matches("expected layers", select(2, pcall(lc.prune.magnitude, {}, { sparsity = 0.5 })), 1, true)
  end)
end)

describe("sparsity 0", function()
  local function trained(prune)
    local model = tiny()
    if prune then assert.equal(0, prune(model:linears()):sparsity()) end
    lc.train(model, { { ids = { { 3, 1, 4, 1, 5, 9, 2, 6 } } } }, { steps = 4, lr = 1e-2 })
    local weights = {}
    for name, p in pairs(model:parameters()) do weights[name] = p:detach():flatten():totable() end
    return weights
  end

  it("is dense, bit for bit, in training too", function()
    local dense = trained()
    for _, prune in ipairs {
      function(layers) return lc.prune.magnitude(layers, { sparsity = 0 }) end,
      function(layers) return lc.prune.random(layers, { sparsity = 0, scope = "model", seed = 1 }) end,
      function(layers) return lc.prune.by(layers, nil, function(layer) return layer.weight end, { sparsity = 0 }) end,
      function(layers) return lc.prune.magnitude(layers, { pattern = "4:4" }) end,
    } do
      assert.same(dense, trained(prune))
    end
  end)
end)

describe("pruning by magnitude", function()
  for _, sparsity in ipairs { 0, 0.1, 0.37, 0.5, 0.9, 1 } do
    it(("prunes floor(%g n) of each layer, the smallest first"):format(sparsity), function()
      local model = tiny()
      local before = {}
      for _, layer in ipairs(model:linears()) do before[layer.name] = flatten(rows(layer)) end
      local mask = lc.prune.magnitude(model:linears(), { sparsity = sparsity })
      for name, keep in pairs(mask) do
        local n = keep:numel()
        assert.equal(math.floor(sparsity * n), n - keep:sum():item())
        assert.same(keep_by_sorting(before[name], math.floor(sparsity * n)), flatten(keep:tolist()))
      end
      for _, layer in ipairs(model:linears()) do
        assert.equal(math.floor(sparsity * layer.weight:numel()), zeros(layer.weight))
      end
    end)
  end

  it("prunes floor(s I) of each row when the scope is the row", function()
    local model = tiny()
    local layers = model:linears "mlp.up"
    local before = rows(layers[1])
    local mask = lc.prune.magnitude(layers, { sparsity = 0.4, scope = "row" })
    for o, row in ipairs(mask[layers[1]]:tolist()) do
      assert.same(keep_by_sorting(before[o], math.floor(0.4 * 12)), row)
    end
  end)

  it("prunes floor(s n) of all layers together when the scope is the model", function()
    local model = tiny()
    local n = 0
    model:linears "attention"[1].weight:detach():mul_(100) -- the others go first
    for _, layer in ipairs(model:linears()) do n = n + layer.weight:numel() end
    local mask = lc.prune.magnitude(model:linears(), { sparsity = 0.3, scope = "model" })
    local pruned, weights = mask:count()
    assert.same({ math.floor(0.3 * n), n }, { pruned, weights })
    assert.equal(0, zeros(model:linears "attention"[1].weight))
  end)

  it("keeps the lower index of equal weights", function()
    local model = tiny()
    local layer = model:linears "mlp.up"[1]
    layer.weight:detach():fill_(-0.5)
    local mask = lc.prune.magnitude(model:linears "mlp.up", { sparsity = 0.25, scope = "row" })
    for _, row in ipairs(mask[layer]:tolist()) do
      assert.same(keep_by_sorting({ 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 }, 3), row)
    end
  end)

  it("keeps n of every m neighbours, with ties too", function()
    local model = tiny()
    local layers = model:linears()
    layers[1].weight:detach():fill_(0.5)
    for _, pattern in ipairs { "2:4", "1:3", "0:2", "4:4" } do
      local n, m = pattern:match "(%d):(%d)"
      local mask = lc.prune.magnitude(layers, { pattern = pattern, apply = false })
      for _, keep in pairs(mask) do
        local groups = keep:reshape { -1, math.tointeger(tonumber(m)) }:sum(2)
        assert.is_true(groups:eq(tonumber(n)):all():item())
      end
    end
  end)

  it("leaves the weights when apply is false, and holds nothing when hold is false", function()
    local model = tiny()
    local mask = lc.prune.magnitude(model:linears(), { sparsity = 0.5, apply = false })
    assert.equal(0.5, mask:sparsity())
    assert.equal(0, model:sparsity())
    local layer = model:linears()[1]
    lc.prune.magnitude(model:linears(), { sparsity = 0.5, hold = false })
    assert.equal(0.5, layer:sparsity())
    layer.weight:detach():fill_(1)
    assert.equal(0, layer:sparsity())
  end)

  it("says what was asked for beside what was reached", function()
    local mask = lc.prune.magnitude(tiny():linears "mlp.up", { sparsity = 0.3333 })
    assert.equal(0.3333, mask.requested)
    assert.equal(math.floor(0.3333 * 576) / 576, mask:sparsity())
    assert.matches("33.2%% of 1,152 weights pruned %(asked for 33.3%%%)", tostring(mask))
    assert.is_nil((~mask).requested)
  end)
end)

describe("what is held", function()
  it("goes first and stays: pruning again adds to it", function()
    local model = tiny()
    local random = lc.prune.random(model:linears(), { sparsity = 0.3, seed = 5 })
    local both = lc.prune.magnitude(model:linears(), { sparsity = 0.6 })
    assert.equal(1, (both & random):overlap(both)) -- nothing that random pruned is kept
    for _, layer in ipairs(model:linears()) do
      assert.equal(math.floor(0.6 * layer.weight:numel()), zeros(layer.weight))
    end
  end)

  it("is not changed by a sparsity at or below it", function()
    local model = tiny()
    local first = lc.prune.magnitude(model:linears(), { sparsity = 0.5 })
    for _, sparsity in ipairs { 0.5, 0.2, 0 } do
      for _, scope in ipairs { "layer", "model" } do
        assert.equal(1, lc.prune.random(model:linears(), { sparsity = sparsity, scope = scope }):overlap(first))
      end
    end
    assert.equal(0, first:violations())
  end)

  it("stays zero through momentum, decay and accumulation", function()
    for _, optimizer in ipairs { "sgd", "adamw" } do
      for _, accumulate in ipairs { 1, 3 } do
        local model = tiny()
        local mask = lc.prune.magnitude(model:linears(), { sparsity = 0.6 })
        local layer = model:linears()[1]
        local before = layer.weight:detach():clone()
        local batches = {}
        for i = 1, 4 do batches[i] = { ids = lc.randint(0, 31, { 2, 8 }) } end
        lc.train(model, batches, {
          steps = 20, optimizer = optimizer, accumulate = accumulate, lr = 1e-2, weight_decay = 0.1,
          momentum = optimizer == "sgd" and 0.9 or nil,
        })
        assert.equal(0, mask:violations())
        -- Nothing else stood still: what did not change is what is pruned.
        assert.equal(math.floor(0.6 * before:numel()), layer.weight:eq(before):sum():item())
      end
    end
  end)

  it("cannot change between a loss and its backward pass", function()
    local model = tiny()
    local batch = { ids = lc.randint(0, 31, { 2, 8 }) }
    assert.error_matches(function()
      for _ in lc.steps(model, { batch }, { steps = 1 }) do
        lc.prune.magnitude(model:linears(), { sparsity = 0.5 })
      end
    end, "prune after t:update()")
    for t in lc.steps(model, { batch }, { steps = 2 }) do
      t:update()
      lc.prune.magnitude(model:linears(), { sparsity = 0.25 * t.step })
    end
    assert.equal(0.5, model:sparsity())
  end)

  it("is zeroed again after a write, and no longer once lifted", function()
    local model = tiny()
    local mask = lc.prune.magnitude(model:linears(), { sparsity = 0.5 })
    local layer = model:linears()[1]
    layer.weight:detach():fill_(1)
    assert.equal(0, mask:violations())
    assert.equal(0.5, layer:sparsity())
    mask:lift()
    layer.weight:detach():fill_(1)
    assert.equal(layer.weight:numel() // 2, mask:violations())
    mask:apply()
    assert.equal(0, mask:violations())
  end)

  it("is lifted by the mask that it is, and by no earlier one", function()
    local model = tiny()
    local first = lc.prune.magnitude(model:linears(), { sparsity = 0.3 })
    local later = lc.prune.magnitude(model:linears "mlp", { sparsity = 0.6 })
    first:lift() -- the attention's alone: the others hold the later mask
    for _, layer in ipairs(model:linears()) do layer.weight:detach():fill_(1) end
    assert.equal(0, later:violations())
    local before = model:sparsity(model:linears "mlp")
    assert.equal(0, model:sparsity(model:linears "attention"))
    assert.error_matches(function() first:lift() end, "mask: lift: no layer holds this mask: transformer%.%S+ holds "
      .. "another, made since; lift that one, or lc%.mask%.held%(model%)")
    assert.equal(before, model:sparsity(model:linears "mlp"))
    assert.equal(1, lc.mask.held(model:linears "mlp"):overlap(later))
    lc.mask.held(model):lift()
    for _, layer in ipairs(model:linears()) do layer.weight:detach():fill_(1) end
    assert.equal(0, model:sparsity(model:linears()))
    first:lift() -- nothing is held: nothing to do
  end)

  it("may come back with regrow, with its old values where they were kept", function()
    local model = tiny()
    local layer = model:linears()[1]
    local before = layer.weight:detach():clone()
    lc.prune.random(model:linears(), { sparsity = 0.8, seed = 3, keep_values = true })
    lc.prune.magnitude(model:linears(), { sparsity = 0.5, regrow = true })
    local fresh = tiny()
    lc.prune.magnitude(fresh:linears(), { sparsity = 0.5 })
    assert.equal(1, lc.mask.of(model):overlap(lc.mask.of(fresh)))
    local kept = layer.weight:ne(0)
    assert.is_true((layer.weight - before * kept):eq(0):all():item())
  end)

  it("comes back as zero where the values were not kept", function()
    local model = tiny()
    lc.prune.random(model:linears(), { sparsity = 0.8, seed = 3 })
    local mask = lc.prune.magnitude(model:linears(), { sparsity = 0.5, regrow = true })
    assert.equal(0.5, mask:sparsity())
    for _, layer in ipairs(model:linears()) do
      local n = layer.weight:numel()
      assert.equal(math.floor(0.8 * n), zeros(layer.weight))
    end
  end)
end)

describe("pruning at random", function()
  it("is the same for the same seed, whatever else is selected, and grows with the sparsity", function()
    local whole = lc.prune.random(tiny():linears(), { sparsity = 0.5, seed = 9 })
    local part = lc.prune.random(tiny():linears "mlp", { sparsity = 0.5, seed = 9 })
    local more = lc.prune.random(tiny():linears(), { sparsity = 0.7, seed = 9 })
    local other = lc.prune.random(tiny():linears(), { sparsity = 0.5, seed = 10 })
    for name, keep in pairs(part) do assert.is_true(keep:eq(whole[name]):all():item()) end
    assert.equal(1, (whole & more):overlap(more))
    assert.is_true(whole:overlap(other) < 0.5)
  end)

  it("draws from lc.seed without a seed of its own", function()
    local function two()
      lc.seed(4)
      local first = lc.prune.random(tiny():linears(), { sparsity = 0.5 })
      return first, lc.prune.random(tiny():linears(), { sparsity = 0.5 })
    end
    local a, b = two()
    local c, d = two()
    assert.equal(1, a:overlap(c))
    assert.equal(1, b:overlap(d))
    assert.is_true(a:overlap(b) < 0.5)
  end)
end)

describe("pruning by a score in Lua", function()
  it("equals magnitude when the score is the magnitude", function()
    local ways = {
      { sparsity = 0.5 }, { sparsity = 0.5, scope = "row" }, { sparsity = 0.5, scope = "model" }, { pattern = "2:4" },
    }
    for _, options in ipairs(ways) do
      local want = lc.prune.magnitude(tiny():linears(), options)
      local model = tiny()
      local got = lc.prune.by(model:linears(), nil, function(layer) return layer.weight:abs() end, options)
      assert.equal(1, got:overlap(want))
      assert.equal(0, got:violations())
    end
  end)

  it("ranks infinities like numbers, and takes scores of any type and layout", function()
    local model = tiny()
    local layers = model:linears "mlp.up"
    local mask = lc.prune.by(layers, nil, function(layer)
      local O, I = layer.weight.shape[1], layer.weight.shape[2]
      local column = lc.arange(1, I + 1):reshape { I, 1 }:expand { I, O }:transpose(1, 2)
      return lc.where(column:eq(3), column * 0 - math.huge, column * 1.0)
    end, { sparsity = 1 / 12, scope = "row" })
    for _, row in ipairs(mask[layers[1]]:tolist()) do
      assert.same({ true, true, false, true, true, true, true, true, true, true, true, true }, row)
    end
  end)

  it("hands on the function's own error, and names the layer of a bad score", function()
    local model = tiny()
    local layers = model:linears "mlp.up"
    local function refuses(score, text)
      assert.error_matches(function() lc.prune.by(layers, nil, score, { sparsity = 0.5 }) end, text)
    end
    refuses(function() error "mine" end, "mine")
    refuses(function() return 3 end,
      "prune.by: transformer.h.0.mlp.c_fc: the function must return a tensor of scores %(48, 12%)")
    refuses(function() return lc.zeros { 12, 48 } end, "scores are %(12, 48%), the weight %(48, 12%)")
    refuses(function(layer) return layer.weight / 0 * 0 end, "NaN at row 1, column 1")
    assert.equal(0, model:sparsity())
  end)
end)

describe("masks", function()
  local model, a, b
  before_each(function()
    model = tiny()
    a = lc.prune.random(model:linears(), { sparsity = 0.5, seed = 1, apply = false })
    b = lc.prune.random(model:linears(), { sparsity = 0.25, seed = 2, apply = false })
  end)

  it("combine with &, | and ~ element by element", function()
    for name, keep in pairs(a & b) do assert.is_true(keep:eq(a[name]:logical_and(b[name])):all():item()) end
    for name, keep in pairs(a | b) do assert.is_true(keep:eq(a[name]:logical_or(b[name])):all():item()) end
    for name, keep in pairs(~a) do assert.is_true(keep:eq(a[name]:logical_not()):all():item()) end
    assert.equal(1, (~(a & b)):overlap(~a | ~b))
    assert.equal(0, a:overlap(~a))
    assert.equal(1, a:overlap(a))
  end)

  it("leave a layer that only one names as that one has it, or whole", function()
    local up = lc.prune.magnitude(model:linears "mlp.up", { sparsity = 0.5, apply = false })
    local down = lc.prune.magnitude(model:linears "mlp.down", { sparsity = 0.5, apply = false })
    assert.equal(4, #(up & down))
    assert.equal(0.5, (up & down):sparsity())
    assert.equal(0, (up | down):sparsity())
    assert.error_matches(function() up:overlap(down) end, "only one of the masks names transformer.h.0.mlp.c_fc")
  end)

  it("applied twice are applied once", function()
    a:apply()
    local once = lc.mask.of(model)
    a:apply()
    assert.equal(1, once:overlap(lc.mask.of(model)))
    assert.equal(1, once:overlap(a))
    assert.equal(1, (a & a):overlap(a))
  end)

  it("are values: what was read from one does not change it", function()
    local name = model:linears()[1].name
    local keep = a[name]
    keep:fill_(false)
    assert.is_true(a[name]:any():item())
    local given = lc.ones({ 48, 12 }, { dtype = "bool" })
    local mask = lc.mask.from(model:linears "mlp.up", function() return given end)
    given:fill_(false)
    assert.equal(0, mask:sparsity())
  end)

  it("are made from functions and from tables keyed by layer or name", function()
    local layers = model:linears "mlp.up"
    local big = function(layer) return layer.weight:abs():gt(0.01) end
    local by_function = lc.mask.from(layers, big)
    local by_table = lc.mask.from(layers, { [layers[1]] = big(layers[1]), [layers[2].name] = big(layers[2]) })
    assert.equal(1, by_function:overlap(by_table))
    assert.equal(0, lc.mask.from(layers, {}):sparsity())
    local function refuses(given, text)
      assert.error_matches(function() lc.mask.from(layers, given) end, text)
    end
    refuses({ nonsense = big(layers[1]) }, "'nonsense' is not one of the layers")
    refuses({ [model:linears "head"[1]] = big(layers[1]) }, "lm_head is not one of the layers")
    refuses(function(layer) return layer.weight end, "a mask is a bool tensor")
    refuses(function() return lc.ones({ 2, 2 }, { dtype = "bool" }) end, "the mask is %(2, 2%), the weight %(48, 12%)")
  end)

  it("are held by a clone too, under the layers' names", function()
    local clone = model:clone()
    a:hold { model = clone }
    assert.equal(0, model:sparsity())
    assert.equal(0, a:violations(clone))
    assert.is_true(a:violations(model) > 0)
    local other = tiny(1)
    assert.error_matches(function() a:hold { model = other } end, "the model has no layer transformer.h.1")
    assert.equal(0, other:sparsity())
  end)

  it("say what they have", function()
    assert.equal(#model:linears(), #a)
    assert.error_matches(function() return a.nonsense end, "names no layer 'nonsense'")
    assert.error_matches(function() return a[1] end, "index it with a layer or its name")
    assert.matches("mask of 8 layers: 50.0%% of 3,456 weights pruned", tostring(a))
  end)
end)

describe("bad input", function()
  local function refuses(options, text)
    local model = tiny()
    assert.error_matches(function() lc.prune.magnitude(model:linears(), options) end, text)
    assert.equal(0, model:sparsity())
  end

  it("is told what a share is", function()
    refuses({ sparsity = 90 }, "prune.magnitude: sparsity 90 is not a share from 0 to 1; for 90%% write 0.9")
    refuses({ sparsity = -0.1 }, "sparsity %-0.1 is not a share from 0 to 1")
    refuses({ sparsity = 1000 }, "sparsity 1000 is not a share from 0 to 1")
    refuses({ sparsity = 0 / 0 }, "sparsity nan is not a share from 0 to 1")
    refuses({ sparsity = 0 / 0, pattern = "2:4" }, "sparsity nan is not a share from 0 to 1")
    refuses({}, "how much%? give sparsity = 0.5 or pattern = '2:4'")
    refuses({ sparsty = 0.5 }, "unknown option 'sparsty' %(did you mean 'sparsity'%?%)")
    refuses({ sparsity = "0.5" }, "option 'sparsity' must be a number")
  end)

  it("is told what a pattern is", function()
    for _, pattern in ipairs { "2", "4:2", ":4", "2:", "2:0", "a:b", "2:4:8", "-1:4", "" } do
      refuses({ pattern = pattern }, "is not n:m, such as '2:4'")
    end
    refuses({ pattern = "2:4", sparsity = 0.5 }, "both given")
    refuses({ pattern = "1:1025" }, "pattern '1:1025' has groups of more than 1024")
    refuses({ pattern = "2:4", scope = "model" },
      "scope and pattern are both given; a pattern compares within its groups")
    refuses({ pattern = "2:5" }, "has 12 inputs, which groups of 5 do not divide")
    refuses({ sparsity = 0.5, regrow = true, hold = false }, "regrow needs hold")
  end)

  it("is told where a NaN stands, and nothing is pruned", function()
    local model = tiny()
    local layer = model:linears()[3]
    layer.weight:detach()[2][5] = 0 / 0
    assert.error_matches(function() lc.prune.magnitude(model:linears(), { sparsity = 0.5 }) end,
      "prune.magnitude: " .. layer.name:gsub("%p", "%%%0") .. ": NaN at row 2, column 5")
    assert.equal(0, model:sparsity())
  end)

  it("is told which layers there are when the selection is empty", function()
    assert.error_matches(function() lc.prune.magnitude(tiny():linears "mpl", { sparsity = 0.5 }) end, "mlp.up")
  end)
end)
