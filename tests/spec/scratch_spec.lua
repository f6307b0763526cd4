-- The methods written in Lua from first principles: each recipe runs, does what defines its method, and can be resumed.

local cli = dofile "tests/cli.lua"
local json = require "lacuna.json"
local lc = require "lacuna"
local options = require "lacuna.options"
local temporary = dofile "tests/temporary.lua"

local root = temporary()

local function folder(name) return name:gsub("_", "-") end

--- The logged lines of a run.
local function rows(directory, name)
  local list = {}
  for line in io.lines(("%s/%s/metrics.jsonl"):format(directory, folder(name))) do
    list[#list + 1] = json.decode(line, "metrics")
  end
  return list
end

--- Runs a recipe here, at toy scale: what its file returns, and its lines. `replace` stands in for functions of lc
-- meanwhile.
local function play(name, replace)
  local directory = temporary()
  options.value.toy, options.value.out, options.arguments = true, directory, {}
  local before = {}
  for key, value in pairs(replace or {}) do
    before[key] = lc[key]
    rawset(lc, key, value)
  end
  local result = dofile(("recipes/scratch/%s.lua"):format(name))
  for key, value in pairs(before) do rawset(lc, key, value) end
  local lines = rows(directory, name)
  options.value.toy, options.value.out = nil, nil
  return result, lines
end

local function content(tensor) return tensor:detach():flatten():totable() end

--- Weights of all parameters by name.
local function weights(model)
  local all = {}
  for name, p in pairs(model:parameters()) do all[name] = content(p) end
  return all
end

local function column(lines, name)
  local list = {}
  for _, line in ipairs(lines) do list[#list + 1] = line[name] end
  return list
end

local all = { "per_step", "pdp", "resprop", "gradual", "movement", "distill", "lottery", "wanda", "sparsegpt" }
for _, name in ipairs(all) do
  describe(name, function()
    it("is at most 40 lines", function()
      local count = 0
      for _ in io.lines(("recipes/scratch/%s.lua"):format(name)) do count = count + 1 end
      assert.is_true(count <= 40, ("%d lines"):format(count))
    end)

    it("goes on after it is killed as if it had not been", function()
      local clock = require("lacuna.core.train").seconds
      local function command(out, resume)
        return ("%s --toy --out %s/%s %s recipes/scratch/%s.lua"):format(cli.program, root, out, resume, name)
      end
      local began = clock()
      local whole = cli.shell(command("whole", ""))
      assert.equal("", whole.err)
      local delay = 0.6 * (clock() - began)
      cli.shell(("%s & pid=$!; sleep %.3f; kill -9 $pid; wait $pid"):format(command("killed", ""), delay))
      local resumed = cli.shell(command("killed", "--resume"))
      assert.equal("", resumed.err)
      assert.equal(0, resumed.status)
      assert.same(rows(root .. "/whole", name), rows(root .. "/killed", name))
    end)
  end)
end

describe("per_step", function()
  it("changes exactly the parameters that are not among the largest", function()
    local steps = lc.steps
    local checked = 0
    local function watched(model, data, opts)
      local next_step, state, control, closing = steps(model, data, opts)
      local before, largest
      return function()
        local t = next_step(state, control)
        if before then
          for name, values in pairs(weights(model)) do
            local same = true
            for i, value in ipairs(values) do same = same and value == before[name][i] end
            assert.equal(largest[name] or false, same, name)
          end
          checked = checked + 1
        end
        before, largest = weights(model), {}
        local norms = {}
        for name, p in pairs(model:parameters()) do norms[#norms + 1] = { name, p:detach():norm():item() } end
        table.sort(norms, function(a, b) return a[2] > b[2] end)
        for i = 1, #norms // 2 do largest[norms[i][1]] = true end
        return t
      end, state, control, closing
    end
    local _, lines = play("per_step", { steps = watched })
    assert.equal(30, checked)
    for i = 2, #lines - 1 do
      assert.equal(lines[2].dense_macs, lines[i].dense_macs)
      assert.is_true(lines[i].macs < lines[i].dense_macs)
    end
  end)
end)

describe("pdp", function()
  local pdp, lines = play "pdp"

  it("has the gradient m + |w| m (1 - m) / tau", function()
    local t, tau = 0.4, 0.15
    local w = lc.param(lc.randn({ 5, 7 }, { dtype = "f64", stream = lc.stream("pdp", 3) }))
    assert.is_true(lc.gradcheck(function(x) return x * pdp.soft_mask(x, t, tau) end, { w }) < 1e-6)
    w = lc.param(w:detach() * 1)
    local m = pdp.soft_mask(w, t, tau);
    (w * m):sum():backward()
    m = m:detach()
    local want = m + w:detach():abs() / tau * m * (1 - m)
    assert.is_true((w.grad - want):abs():max():item() < 1e-12)
  end)

  it("has a mask of exactly 1 at sparsity 0, and half below 1/2 at sparsity 1/2", function()
    local w = lc.randn { 9, 8 }
    assert.is_true(pdp.soft_mask(w, pdp.threshold(w, 0), 1e-3):eq(1):all():item())
    local m = pdp.soft_mask(w, pdp.threshold(w, 0.5), 1e-3)
    assert.equal(36, m:lt(0.5):sum():item())
  end)

  it("ends with the hard mask that its soft one became", function()
    local last, before = lines[#lines], lines[#lines - 1]
    assert.near(0.7, last.sparsity, 1e-3)
    assert.near(before.soft, last.hard, 0.01 * before.soft)
  end)
end)

describe("resprop", function()
  local resprop, lines = play "resprop"
  local x, w, b, gs

  --- The product itself, on a layer that hands it over; s stands for the layer's handle.
  local function product(reuse)
    return resprop.install({ replace = function(_, f) return f end }, lc.schedule(reuse))
  end

  --- Gradients of x, w, b for the output gradient g.
  local function gradients(f, s, g)
    for _, leaf in ipairs { x, w, b } do leaf.grad = nil end
    local leaves = { lc.param(x:detach() * 1), lc.param(w:detach() * 1), lc.param(b:detach() * 1) }
    f(leaves[1], leaves[2], leaves[3], s):backward(g)
    return { leaves[1].grad, leaves[2].grad, leaves[3].grad }
  end

  local function dense(ghat)
    local g2, x2 = ghat:reshape { 6, 4 }, x:reshape { 6, 5 }
    return { ghat:matmul(w), g2:t():matmul(x2), g2:sum(1) }
  end

  local function same(got, want)
    for i = 1, 3 do assert.is_true((got[i] - want[i]):abs():max():item() < 1e-12) end
  end

  before_each(function()
    local stream = lc.stream("resprop", 5)
    local function normal(shape) return lc.randn(shape, { dtype = "f64", stream = stream }) end
    x, w, b = normal { 2, 3, 5 }, normal { 4, 5 }, normal { 4 }
    gs = { normal { 2, 3, 4 }, normal { 2, 3, 4 } }
  end)

  it("is dense with reuse 0, and in the first step", function()
    local s = { progress = 0 }
    same(gradients(product(0), s, gs[1]), dense(gs[1]))
    same(gradients(product(0), s, gs[2]), dense(gs[2]))
    same(gradients(product(0.9), { progress = 0 }, gs[1]), dense(gs[1]))
  end)

  it("gives the dense products of P + D, with D the top share of |g - P|", function()
    local s, f = { progress = 0 }, product(0.75)
    gradients(f, s, gs[1])
    local D = gs[2] - gs[1]
    local smallest = content((D:abs():flatten():sort()))[24 - 6 + 1]
    same(gradients(f, s, gs[2]), dense(gs[1] + D * D:abs():ge(smallest)))
  end)

  it("is dense when the shape has changed", function()
    local s, f = { progress = 0 }, product(0.75)
    gradients(f, s, gs[1])
    s.previous = lc.zeros({ 1, 3, 4 }, { dtype = "f64" })
    same(gradients(f, s, gs[2]), dense(gs[2]))
  end)

  --- A tiny model after `steps` steps of two micro-batches each, with the recipe's layers if `reuse` is given.
  local function trained(steps, reuse)
    local model = lc.model { family = "gpt2", vocab_size = 31, n_positions = 8, n_embd = 12, n_layer = 2, n_head = 3,
      embd_pdrop = 0, attn_pdrop = 0, resid_pdrop = 0, seed = 1, dtype = "f64" }
    local data = function(i)
      return { ids = lc.randint(0, 31, { 2, 7 }, { stream = lc.stream("resprop.data", i) }) }
    end
    for _, layer in ipairs(reuse and model:linears() or {}) do resprop.install(layer, reuse) end
    lc.train(model, data, { steps = steps, accumulate = 2, lr = 1e-3 })
    return weights(model)
  end

  it("with reuse 0 trains a model as its own layers do, biases included", function()
    local want, got = trained(4), trained(4, lc.schedule(0))
    local reused = trained(4, lc.schedule(0.9))
    local differs = false
    for name, values in pairs(want) do
      for i, value in ipairs(values) do
        assert.near(value, got[name][i], 1e-9, name)
        differs = differs or math.abs(value - reused[name][i]) > 1e-6
      end
    end
    assert.is_true(differs)
  end)

  it("switches at the exact optimizer step, with accumulation too", function()
    local reuse = column(lines, "reuse")
    for t = 1, 24 do assert.equal((t - 1) / 24 >= 0.25 and 0.9 or 0, reuse[t]) end
    local seen = {}
    trained(6, { at = function(_, progress)
      seen[#seen + 1] = progress
      return 0
    end })
    assert.equal(6 * 2 * 8, #seen) -- steps, micro-batches, layers
    for i, progress in ipairs(seen) do assert.equal((i - 1) // 16 / 6, progress) end
  end)
end)

describe("gradual", function()
  it("follows the cubic ramp, and lets weights come back", function()
    local _, lines = play "gradual"
    local regrown = 0
    for _, line in ipairs(lines) do
      if line.step then
        local s = math.min(math.max((line.step - 1) / 40 - 0.1, 0) / 0.7, 1)
        assert.near(0.8 - 0.8 * (1 - s) ^ 3, line.wanted, 1e-12)
        assert.near(line.wanted, line.sparsity, 2e-3)
        regrown = regrown + line.regrown
      end
    end
    assert.is_true(regrown > 0)
    assert.near(0.8, lines[#lines].sparsity, 1e-3)
  end)
end)

describe("movement", function()
  local movement, lines = play "movement"

  it("gives each score dL/dw' w, masked or not, and weights their gradient where kept", function()
    local w, scores, c = lc.param(lc.randn { 4, 6 }), lc.param(lc.randn { 4, 6 }), lc.randn { 4, 6 };
    (movement.masked(w, scores, 0.5) * c):sum():backward()
    local keep = scores:detach():keep(12, { scope = "all" })
    assert.same(content(c * w:detach()), content(scores.grad))
    assert.same(content(c * keep), content(w.grad))
  end)

  it("ends with the mask of the top scores", function()
    assert.near(0.7, lines[#lines].sparsity, 1e-3)
    for layer, handle in pairs(movement.handles) do
      local scores, keep = handle.scores:detach(), movement.mask[layer]
      assert.is_true(scores:abs():max():item() > 0)
      assert.same(content(scores:keep(keep:sum():item(), { scope = "all" })), content(keep))
    end
  end)
end)

describe("distill", function()
  it("brings the pruned student back, and its mask holds", function()
    local _, lines = play "distill"
    local by = {}
    for _, line in ipairs(lines) do by[line.model or ""] = line end
    assert.equal(0, by.student.violations)
    assert.near(0.6, by.student.sparsity, 1e-3)
    assert.is_true(by.student.perplexity < by.pruned.perplexity)
  end)
end)

describe("lottery", function()
  it("trains the survivors again from where they were at step k", function()
    local train, seen = lc.train, {}
    play("lottery", { train = function(model, data, opts)
      seen[#seen + 1] = { weights = weights(model), start = opts.start, mask = lc.mask.of(model) }
      return train(model, data, opts)
    end })
    local dense, ticket = seen[1], seen[2]
    assert.equal(10, dense.start)
    assert.equal(10, ticket.start)
    assert.near(0.6, ticket.mask:sparsity(), 1e-3)
    local pruned = 0
    for name, values in pairs(ticket.weights) do
      for i, value in ipairs(values) do
        if value ~= dense.weights[name][i] then
          assert.equal(0, value)
          pruned = pruned + 1
        end
      end
    end
    local count = ticket.mask:count()
    assert.near(count, pruned, 2) -- a weight that was 0 at step k is not seen to be pruned
  end)
end)

describe("wanda and sparsegpt in Lua", function()
  local golden = lc.io.open "tests/golden/pruning/expected.safetensors"
  local data = { { ids = golden.ids, attention_mask = golden.attention_mask } }
  -- not lc.load, which is that of --toy once a recipe was played
  local function load() return require("lacuna.model").load("tests/golden/pruning", { dtype = "f64" }) end

  local function same(a, b)
    for i, layer in ipairs(a:linears()) do
      local w, v = layer.weight, b:linears()[i].weight
      assert.equal(0, w:eq(0):ne(v:eq(0)):sum():item(), layer.name)
      assert.is_true((w - v):abs():max():item() < 1e-9, layer.name)
    end
  end

  it("agree with those in C", function()
    local wanda, sparsegpt = play "wanda", play "sparsegpt"
    local mine, theirs = load(), load()
    wanda.prune(mine:linears(), data, 0.6)
    lc.prune.wanda(theirs:linears(), data, { sparsity = 0.6 })
    same(mine, theirs)

    mine, theirs = load(), load()
    for layer, stats in lc.calibrate(mine:linears(), data) do
      sparsegpt.solve(layer.weight:detach(), stats.H * (2 / 6), 0.6, 12, 0.01)
    end
    lc.prune.sparsegpt(theirs:linears(), data, { sparsity = 0.6, block = 12 })
    same(mine, theirs)
  end)
end)
