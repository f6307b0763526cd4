-- Calibration and the methods that prune by it, against the published algorithms as tests/golden/pruning.py wrote them
-- in PyTorch, and their laws: what is seen, what stays, what an early end leaves behind.

local lc = require "lacuna"
local system = require "lacuna.core.system"

local cli = dofile "tests/cli.lua"
local tiny = dofile "tests/tiny.lua"
local temporary = dofile "tests/temporary.lua"
local golden = lc.io.open "tests/golden/pruning/expected.safetensors"
local data = { { ids = golden.ids, attention_mask = golden.attention_mask } }
local PADS, TOKENS = 4, 6 * 12

local function load(dtype)
  return lc.load("tests/golden/pruning", { dtype = dtype or "f64" })
end

local function largest(t) return t:abs():max():item() end

-- The layer's weight is the golden one: the same zeros, the same values.
local function check_layers(model, case, tolerance)
  for _, layer in ipairs(model:linears()) do
    local wanted = golden[case .. "/" .. layer.name]
    assert.equal(0, layer.weight:eq(0):ne(wanted:eq(0)):sum():item(), layer.name .. ": other weights are 0")
    assert.is_true(largest(layer.weight - wanted) < tolerance, layer.name)
  end
end

local cases = {
  sparsegpt = { "sparsegpt", { sparsity = 0.5 } },
  sparsegpt_layer = { "sparsegpt", { sparsity = 0.5, sequential = "layer" } },
  sparsegpt_dense = { "sparsegpt", { sparsity = 0.5, sequential = false } },
  sparsegpt_blocks = { "sparsegpt", { sparsity = 0.7, damp = 0.02, epsilon = 1e-8, block = 8, mask_block = 4 } },
  sparsegpt_published = { "sparsegpt", { sparsity = 0.6, block = 12, exact = false } },
  ["sparsegpt_2:4"] = { "sparsegpt", { pattern = "2:4", block = 8 } },
  wanda = { "wanda", { sparsity = 0.5 } },
  ["wanda_3:8"] = { "wanda", { pattern = "3:8", sequential = "layer" } },
  ria = { "ria", { sparsity = 0.6 } },
}

describe("PyTorch agrees on", function()
  for case, call in pairs(cases) do
    for dtype, tolerance in pairs { f64 = 1e-6, f32 = 1e-4 } do
      it(case .. " in " .. dtype, function()
        local model = load(dtype)
        local mask = lc.prune[call[1]](model:linears(), data, call[2])
        check_layers(model, case, tolerance)
        assert.equal(0, mask:violations(model))
        if not call[2].pattern and call[2].exact ~= false then
          assert.is_true(mask:sparsity() <= call[2].sparsity and mask:sparsity() > call[2].sparsity - 0.04)
        end
      end)
    end
  end

  it("pruning again what is pruned: held weights go first and count", function()
    local model = load()
    lc.prune.sparsegpt(model:linears(), data, { sparsity = 0.3, block = 8 })
    lc.prune.sparsegpt(model:linears(), data, { sparsity = 0.6, block = 8 })
    check_layers(model, "sparsegpt_twice", 1e-6)
  end)
end)

describe("sparsegpt", function()
  it("is magnitude within each mask block of columns when H is a multiple of the identity", function()
    local model, other = load(), load()
    lc.prune.sparsegpt(model:linears(), data, { sparsity = 0.5, damp = 1e6, block = 8, mask_block = 4 })
    for i, layer in ipairs(other:linears()) do
      local W = layer.weight:detach()
      for first = 1, layer.inputs, 4 do
        local part = W { {}, { first, first + 3 } }
        local kept = part:abs():keep(part:numel() - part:numel() // 2, { scope = "all" })
        part:copy_(part * kept)
      end
      local pruned = model:linears()[i]
      -- weights of inputs that are always 0 are zeroed whatever the mask
      if layer.name:find "h.1.mlp.c_proj" == nil then
        assert.is_true(largest(pruned.weight - W) < 1e-4, layer.name)
        assert.equal(0, pruned.weight:eq(0):ne(W:eq(0)):sum():item())
      end
    end
  end)

  it("changes nothing at sparsity 0, nor at a sparsity that is held", function()
    local model = load()
    local before = model:snapshot()
    local mask = lc.prune.sparsegpt(model:linears(), data, { sparsity = 0 })
    assert.equal(0.0, mask:sparsity())
    local untouched = load()
    for i, layer in ipairs(untouched:linears()) do
      assert.equal(0, layer.weight:ne(model:linears()[i].weight):sum():item())
    end
    lc.prune.sparsegpt(model:linears(), data, { sparsity = 0.5 })
    local after = model:linears()[3].weight:clone()
    local again = lc.prune.sparsegpt(model:linears(), data, { sparsity = 0.4 })
    assert.equal(0, after:ne(model:linears()[3].weight):sum():item())
    assert.equal(model:linears():sparsity(), again:sparsity())
    model:restore(before)
  end)

  it("changes nothing where nothing more is pruned, whatever the method counts in", function()
    for _, call in ipairs {
      { "sparsegpt", { pattern = "2:4" } }, { "sparsegpt", { sparsity = 0.47, block = 8, mask_block = 4 } },
      { "alps", { pattern = "2:4" } }, { "alps", { sparsity = 0.47, scope = "row" } },
      { "alps", { sparsity = 0.01, scope = "row" } }, { "ria", { sparsity = 0.47, reconstruct = true } },
    } do
      local model, method, options = load(), call[1], call[2]
      local first = lc.prune[method](model:linears(), data, options)
      local before = tiny.weights(model)
      assert.equal(1.0, lc.prune[method](model:linears(), data, options):overlap(first))
      assert.same(before, tiny.weights(model), method)
    end
  end)

  it("refuses weights that are not finite, as its like do", function()
    for method, problem in pairs {
      sparsegpt = "the weight at row 2, column 5 is not finite", alps = "the weight at row 2, column 5 is not finite",
      ria = "NaN at row 1, column 5; a NaN cannot be ranked", wanda = "NaN at row 2, column 5; a NaN cannot be ranked",
    } do
      local model = load()
      local last = model:linears "*.h.1.mlp.c_proj"[1]
      last.weight:detach()[2][5]:fill_(0 / 0)
      local ok, message = pcall(lc.prune[method], model:linears(), data, { sparsity = 0.5 })
      assert.is_false(ok)
      assert.matches(("prune.%s: transformer.h.1.mlp.c_proj: %s"):format(method, problem), message, 1, true)
      assert.is_nil(last.held)
    end
  end)

  it("leaves a better model than magnitude where it counts: the outputs of its layers", function()
    local function error_of(prune)
      local model, dense = load(), load()
      local layer = model:linears "mlp.up"[1]
      local input
      for _, stats in lc.calibrate(layer, data, { input = true }) do input = stats.input end
      prune(layer)
      return (input:matmul((layer.weight - dense:linears "mlp.up"[1].weight):t()) ^ 2):sum():item()
    end
    local wanda = error_of(function(l) lc.prune.wanda(l, data, { sparsity = 0.5 }) end)
    local magnitude = error_of(function(l) lc.prune.magnitude(l, { sparsity = 0.5, scope = "row" }) end)
    local sparsegpt = error_of(function(l) lc.prune.sparsegpt(l, data, { sparsity = 0.5 }) end)
    assert.is_true(sparsegpt < wanda and wanda < magnitude)
  end)

  it("takes targets by layer and by name", function()
    local model = load()
    local layers = model:linears "mlp"
    local targets = { [layers[1]] = 0.25, [layers[2].name] = 0.5, [layers[3]] = 0, [layers[4].name] = 0.75 }
    for _, method in ipairs { "sparsegpt", "wanda" } do
      local mask = lc.prune[method](layers, data, { sparsity = targets, apply = false })
      for i, wanted in ipairs { 0.25, 0.5, 0, 0.75 } do
        assert.equal(wanted, 1 - mask[layers[i]]:sum():item() / mask[layers[i]]:numel())
      end
    end
    lc.prune.magnitude(layers, { sparsity = targets })
    assert.equal(0.75, layers[4]:sparsity())
  end)

  it("leaves the weights with apply = false, and gives the same mask", function()
    local model, other = load(), load()
    local mask = lc.prune.sparsegpt(model:linears(), data, { sparsity = 0.5, apply = false })
    local applied = lc.prune.sparsegpt(other:linears(), data, { sparsity = 0.5 })
    assert.equal(1.0, mask:overlap(applied))
    local fresh = load()
    for i, layer in ipairs(model:linears()) do
      assert.equal(0, layer.weight:ne(fresh:linears()[i].weight):sum():item())
      assert.is_nil(layer.held)
    end
  end)
end)

describe("magnitude and random", function()
  it("may be given a text like the other methods, and do not look at it", function()
    for _, method in ipairs { "magnitude", "random" } do
      local model = load()
      local options = { sparsity = 0.5, seed = method == "random" and 3 or nil, apply = false }
      local mask = lc.prune[method](model:linears(), options)
      for _, text in ipairs { data, function() error "read" end } do
        assert.equal(1.0, mask:overlap(lc.prune[method](model:linears(), text, options)))
      end
      assert.has_error(function() lc.prune[method](model:linears(), 0.5, {}) end, ("prune.%s: argument 2: expected "
        .. "calibration text: a dataset, a list of batches, or a function that gives them, got 0.5"):format(method))
    end
  end)
end)

describe("lc.calibrate", function()
  it("sums x x^T over the tokens that are no padding, layer by layer", function()
    local model = load()
    local names = {}
    for layer, stats in lc.calibrate(model:linears(), data, { input = true }) do
      names[#names + 1] = layer.name
      assert.equal(TOKENS - PADS, stats.n)
      assert.same({ stats.n, layer.inputs }, stats.input.shape)
      local H = stats.input:t():matmul(stats.input)
      assert.is_true(largest(H - stats.H) < 1e-9)
      assert.is_true(largest(H:diagonal():sqrt() - stats.norm) < 1e-9)
    end
    assert.same(model:linears():names(), names)
  end)

  it("passes over a row that is all padding: the same H, and the same weights where epsilon depends on rows", function()
    local ids, keep = lc.randint(0, 31, { 4, 8 }), lc.ones({ 4, 8 }, { dtype = "i64" })
    keep[3]:fill_(0)
    local rest = { 0, 1, 3 }
    local function pruned(batch)
      local model = load()
      lc.prune.sparsegpt(model:linears(), { batch }, { sparsity = 0.5, epsilon = 0.1 })
      return model:linears()
    end
    local few = pruned { ids = ids:index(rest), attention_mask = keep:index(rest) }
    for i, layer in ipairs(pruned { ids = ids, attention_mask = keep }) do
      assert.is_true(largest(layer.weight - few[i].weight) < 1e-9, layer.name)
    end
  end)

  it("shows later layers what the body did to earlier ones, as sequential says", function()
    -- whether layer `later` sees that `first` was pruned away
    local function seen(sequential, first, later)
      local H = {}
      for run = 1, 2 do
        local model = load()
        for layer, stats in lc.calibrate(model:linears(), data, { sequential = sequential }) do
          if run == 2 and layer.name:find(first, 1, true) then lc.prune.magnitude(layer, { sparsity = 0.9 }) end
          if layer.name:find(later, 1, true) then H[run] = stats.H end
        end
      end
      return largest(H[1] - H[2]) > 1e-6
    end
    local qkv, out, next_qkv = "h.0.attn.c_attn", "h.0.attn.c_proj", "h.1.attn.c_attn"
    assert.same({ false, true }, { seen("block", qkv, out), seen("block", qkv, next_qkv) })
    assert.same({ true, true }, { seen("layer", qkv, out), seen("layer", qkv, next_qkv) })
    assert.same({ false, false }, { seen(false, qkv, out), seen(false, qkv, next_qkv) })
  end)

  it("shares one H where q, k and v are layers, each free to overwrite its own", function()
    local model = lc.model { family = "llama", vocab_size = 40, hidden_size = 16, intermediate_size = 24,
      num_hidden_layers = 2, num_attention_heads = 4, num_key_value_heads = 2, max_position_embeddings = 12, seed = 3 }
    local seen = {}
    for layer, stats in lc.calibrate(model:linears "*.0.*", data) do
      seen[layer.role] = stats.H:clone()
      stats.H:fill_(0)
    end
    local function same(a, b) return seen[a]:ne(seen[b]):sum():item() == 0 end
    assert.is_true(same("attention.q", "attention.k") and same("attention.q", "attention.v"))
    assert.is_true(same("mlp.up", "mlp.gate") and not same("mlp.up", "attention.q"))
    assert.is_true(largest(seen["attention.q"]) > 0)
  end)

  for _, family in ipairs { "llama", "qwen2", "gpt_neox", "opt" } do
    it("knows the inputs of " .. family .. ", and its layers are pruned by them", function()
      local text = { { ids = lc.randint(0, 53, { 5, 17 }, { stream = lc.stream("text", 5) }) } }
      local model, dense = tiny.decoder(family), tiny.decoder(family)
      for layer, stats in lc.calibrate(model:linears(), text, { input = true, sequential = false }) do
        local x = stats.input:to("f64")
        assert.same({ 85, layer.inputs }, x.shape)
        assert.is_true(largest(x:t():matmul(x) - stats.H) < 1e-3, layer.name)
      end
      local mask = lc.prune.sparsegpt(model:linears(), text, { sparsity = 0.5, sequential = "layer" })
      assert.equal(0, mask:violations(model))
      assert.is_true(mask:sparsity() > 0.48)
      for i, layer in ipairs(model:linears()) do
        local before = dense:linears()[i].weight
        assert.is_true(before:ne(layer.weight):sum():item() > before:eq(0):sum():item() + mask[layer]:numel() // 2)
      end
      assert.is_true(model:loss(text[1]):isfinite():all():item())
    end)
  end

  it("may be left early, by break or by an error", function()
    local model = load()
    for layer in lc.calibrate(model:linears(), data) do
      if layer.role == "attention.out" then break end
      lc.prune.magnitude(layer, { sparsity = 0.5 })
    end
    local ok, message = pcall(function()
      for _ in lc.calibrate(model:linears(), data) do error("enough", 0) end
    end)
    assert.same({ false, "enough" }, { ok, message })
    assert.equal(0.5, model:linears()[1]:sparsity())
    assert.is_nil(model:linears()[2].held)
    assert.equal(40, model:logits({ { 1, 2, 3 } }).shape[3]) -- nobody watches any more
  end)

  it("takes a dataset, a list of ids and a function alike", function()
    local model = load()
    local ids = golden.ids
    local function norms(text)
      local list = {}
      for layer, stats in lc.calibrate(model:linears(), text, { H = false }) do
        assert.is_nil(stats.H)
        list[layer.name] = stats.norm
      end
      return list
    end
    local one = norms { { ids = ids } }
    local rows = norms { ids { { 1, 3 }, {} }, { ids = ids { { 4, 6 }, {} } } }
    local called = norms(function(i) return i <= 6 and { ids = ids { { i, i }, {} } } or nil end)
    for name, norm in pairs(one) do
      assert.is_true(largest(norm - rows[name]) < 1e-9 and largest(norm - called[name]) < 1e-9)
    end
    local text = lc.dataset { tokenizer = lc.tokenizer.bytes(), text = ("\1\2\3\4\5\6\7\8"):rep(9), length = 12 }
    assert.equal(#text * 12, select(2, lc.calibrate(model:linears(), text)()).n)
  end)
end)

describe("pruning on calibration text", function()
  it("needs the weights, one block's Hessians, the text's hidden states, and a tenth more", function()
    local width, inner, vocabulary, rows, length, layers = 256, 1024, 40000, 128, 64, 2
    local block = 4 * width ^ 2 + 2 * width * inner -- its linear weights
    local weights = 4 * (layers * block + vocabulary * width)
    local hessians, states = 8 * (3 * width ^ 2 + inner ^ 2), 4 * rows * length * width
    local text = { { ids = lc.randint(0, vocabulary, { rows, length }) } }
    local allowed = hessians + states + 0.1 * (weights + hessians + states)
    for _, case in ipairs {
      { "sparsegpt", {} }, { "sparsegpt", { pattern = "2:4", sequential = "layer" } }, { "wanda", {} },
    } do
      local method, options = table.unpack(case)
      local model = lc.model { family = "opt", vocab_size = vocabulary, hidden_size = width, ffn_dim = inner,
        num_hidden_layers = layers, num_attention_heads = 4, max_position_embeddings = length,
        word_embed_proj_dim = width }
      if not options.pattern then options.sparsity = 0.5 end
      collectgarbage()
      collectgarbage()
      system.reset_peak()
      local before = system.memory().live
      local mask = lc.prune[method](model:linears(), text, options)
      local more = system.memory().peak - before
      assert.near(0.5, mask:sparsity(), 1e-3)
      assert.is_true(more <= allowed, ("%s: %.0f bytes, %.0f allowed"):format(method, more, allowed))
    end
  end)
end)

describe("a sparsity below what is held", function()
  it("changes nothing, whatever chose the mask and whatever is compared", function()
    for _, sequential in ipairs { "block", false } do
      for _, case in ipairs { { "wanda", "row" }, { "ria", "layer" }, { "alps", "row" } } do
        local model = load()
        local held = lc.prune.magnitude(model:linears(), { sparsity = 0.5 })
        local mask = lc.prune[case[1]](model:linears(), data,
          { sparsity = 0.4, scope = case[2], sequential = sequential })
        assert.equal(1.0, mask:overlap(held), case[1])
      end
    end
    local model = load()
    local held = lc.prune.magnitude(model:linears(), { sparsity = 0.5, keep_values = true })
    assert.equal(1.0, lc.prune.magnitude(model:linears(), { sparsity = 0.4, scope = "row" }):overlap(held))
    assert.equal(1.0, lc.prune.magnitude(model:linears(), { sparsity = 0.4, scope = "model" }):overlap(held))
    lc.prune.wanda(model:linears(), data, { sparsity = 0.4, sequential = false })
    lc.prune.magnitude(model:linears(), { sparsity = 0.2, regrow = true }) -- old values are still remembered
    assert.near(0.2, model:linears():sparsity(), 0.01)
  end)
end)

describe("a mask that is only made", function()
  it("is the one that is made and applied, also where held weights come back", function()
    for _, method in ipairs { "wanda", "ria", "sparsegpt", "alps" } do
      for _, sequential in ipairs { "block", "layer", false } do
        local masks = {}
        for _, apply in ipairs { true, false } do
          local model = load()
          lc.prune[method](model:linears(), data, { sparsity = 0.8, keep_values = true })
          local before, held = model:snapshot(), lc.mask.held(model)
          masks[#masks + 1] = lc.prune[method](model:linears(), data,
            { sparsity = 0.5, regrow = true, sequential = sequential, apply = apply })
          if not apply then
            assert.equal(1.0, held:overlap(lc.mask.held(model)))
            local weights = model:clone()
            weights:restore(before)
            for i, layer in ipairs(model:linears()) do
              assert.equal(0.0, largest(layer.weight - weights:linears()[i].weight))
            end
          end
        end
        assert.equal(1.0, masks[1]:overlap(masks[2]), ("%s, %s"):format(method, sequential))
      end
    end
  end)
end)

describe("pruning by one's own scores on data", function()
  it("keeps what is held at zero, whatever the function writes, when the mask is only made", function()
    local model = load()
    local held = lc.prune.magnitude(model:linears(), { sparsity = 0.5 })
    lc.prune.by(model:linears(), data, function(layer)
      layer.weight:add_(1)
      return layer.weight:abs()
    end, { sparsity = 0.7, apply = false })
    assert.equal(0, held:violations(model))
    assert.equal(1.0, held:overlap(lc.mask.held(model)))
  end)

  it("is wanda for |w| times the norm", function()
    for _, sequential in ipairs { "block", "layer", false } do
      local model, other = load(), load()
      local options = { sparsity = 0.5, scope = "row", sequential = sequential }
      local mask = lc.prune.by(model:linears(), data, function(layer, stats)
        return layer.weight:abs() * stats.norm
      end, options)
      assert.equal(1.0, mask:overlap(lc.prune.wanda(other:linears(), data, options)))
    end
  end)

  it("ranks all layers together on the dense model only", function()
    local model = load()
    assert.has_error(function() lc.prune.wanda(model:linears(), data, { sparsity = 0.5, scope = "model" }) end,
      "prune.wanda: scope 'model' ranks all layers before any is pruned; it needs sequential = false, and no "
        .. "swap or reconstruct")
    local mask = lc.prune.wanda(model:linears(), data, { sparsity = 0.5, scope = "model", sequential = false })
    assert.equal(0.5, mask:sparsity())
  end)
end)

describe("bad input to calibration", function()
  local function message(fn, ...) return (select(2, pcall(fn, ...))) end

  it("gets an answer that says what to do", function()
    local model = load()
    local layers = model:linears()
    local sparsegpt = lc.prune.sparsegpt
    for wanted, options in pairs {
      ["prune.sparsegpt: sparsity 90 is not a share from 0 to 1; for 90% write 0.9"] = { sparsity = 90 },
      ["prune.sparsegpt: transformer.h.0.attn.c_attn has 16 inputs, which groups of 5 do not divide"] =
        { pattern = "2:5" },
      ["prune.sparsegpt: mask_block = 48 does not divide block = 128"] = { sparsity = 0.5, mask_block = 48 },
      ["prune.sparsegpt: option 'sequential' must be 'block', 'layer' or false, got the string 'blocks'"] =
        { sparsity = 0.5, sequential = "blocks" },
      ["prune.sparsegpt: how much? give sparsity = 0.5 or pattern = '2:4'"] = {},
      ["prune.sparsegpt: mask_block and pattern are both given; a pattern's mask is chosen group by group"] =
        { pattern = "2:4", mask_block = 8 },
      ["prune.sparsegpt: option 'sparsity': the string 'x' is none of the selected layers, nor the name of one"] =
        { sparsity = { x = 0.5 } },
    } do
      assert.equal(wanted, (message(sparsegpt, layers, data, options):gsub("^[^:]*:%d+: ", "")))
    end
    assert.matches("expected calibration text: a dataset, a list of batches", message(sparsegpt, layers, 3, {}), 1,
      true)
    assert.matches("the calibration text is missing: it stands between the layers and the options",
      message(lc.prune.wanda, layers, { sparsity = 0.5 }), 1, true)
    assert.matches("prune.allocate: the calibration text is missing",
      message(lc.prune.allocate, layers, { sparsity = 0.5 }), 1, true)
    assert.matches("prune.swap: the calibration text is missing",
      message(lc.prune.swap, layers, { target = model:snapshot() }), 1, true)
    assert.matches("prune.alps: this is one batch, and a list of them is expected: { { ids = ... } }",
      message(lc.prune.alps, layers, data[1], { sparsity = 0.5 }), 1, true)
    assert.matches("the calibration text has no tokens", message(sparsegpt, layers, {}, { sparsity = 0.5 }), 1, true)
  end)

  it("is warned of when the text that calibrates is scored", function()
    local script = [[
      local lc = require "lacuna"
      local model = lc.model { family = "gpt2", vocab_size = 257, n_positions = 8, n_embd = 8, n_layer = 1, n_head = 1,
        tokenizer = lc.tokenizer.bytes() }
      local all = ("abcdefgh\n"):rep(20) .. "other"
      local text = lc.dataset { model = model, text = all, length = 8 }
      local train, test = text:split(0.5)
      for _ = 1, 2 do
        lc.prune.wanda(model:linears(), train:sample(4), { sparsity = 0.5 })
        if arg[1] == "lines" then
          lc.prune.wanda(model:linears(), lc.dataset { model = model, text = all, length = 8, per = "document" },
            { sparsity = 0.5 })
        end
        if arg[1] ~= "lines" then model:perplexity(test) end
        if arg[1] == "both" then model:perplexity(train) end
        if arg[1] == "lines" then
          model:perplexity(lc.dataset { model = model, text = all .. "\n\n", length = 8, per = "document" })
        end
        if arg[1] == "rows" then
          local first, rest = lc.dataset({ model = model, text = all, length = 8, join = "rows" }):split(0.5)
          model:perplexity(rest)
          io.stderr:write "rest\n"
          model:perplexity(first)
        end
        if arg[1] == "eval" then lc.train(model, test, { steps = 1, batch = 1, eval = train, eval_every = 1 }) end
      end
      warn "@off"
      warn "not shown"
    ]]
    local file = temporary()
    local handle = io.open(file, "w")
    handle:write(script)
    handle:close()
    assert.equal("", cli.shell(cli.program .. " " .. file).err)
    for how, before in pairs { both = "", eval = "", rows = "rest\n", lines = "" } do
      local after = before -- of the second round, which is not warned again
      assert.equal(before .. "lacuna: warning: the text that is scored is calibration text too; its perplexity says "
        .. "little of other texts\n" .. after, cli.shell(("%s %s %s"):format(cli.program, file, how)).err)
    end
    os.remove(file)
  end)

  it("is warned of when more of it is asked for than there is", function()
    local script = [[
      local lc = require "lacuna"
      local text = lc.dataset { tokenizer = lc.tokenizer.bytes(), text = ("abcdefgh"):rep(5), length = 8 }
      text:sample(5)
      text:split(0.5):sample(3)
      text:sample(2):sample(3)
      lc.dataset({ tokenizer = lc.tokenizer.bytes(), text = "a\nb\nc", length = 8, per = "document" }):sample(3)
    ]]
    local file = temporary()
    local handle = io.open(file, "w")
    handle:write(script)
    handle:close()
    local warning = "lacuna: warning: sample: 3 windows of 8 tokens are more than the %d tokens of text: they overlap\n"
    assert.equal(warning:format(20) .. warning:format(16), cli.shell(cli.program .. " " .. file).err)
    os.remove(file)
  end)

  it("makes nothing that is not finite", function()
    local model = lc.model { family = "gpt2", vocab_size = 50, n_positions = 16, n_embd = 16, n_layer = 1, n_head = 2 }
    local down = model:linears "mlp.down"[1]
    down.weight:copy_(lc.randn(down.weight.shape):clamp(-2, 2) * 1e38)
    local before = down.weight:clone()
    assert.matches("prune.alps: transformer.h.0.mlp.c_proj: the weights that were found are not finite; the layer is "
      .. "unchanged", message(lc.prune.alps, model:linears(), { { ids = lc.randint(0, 50, { 4, 16 }) } },
      { sparsity = 0.5 }), 1, true)
    assert.equal(0.0, largest(down.weight - before))
    assert.is_nil(down.held)
  end)

  it("takes weights that are not finite where nothing is solved for", function()
    for _, sequential in ipairs { "block", false } do
      local model = tiny.gpt2()
      local down = model:linears "mlp.down"[1]
      down.weight[1][2]:fill_(math.huge)
      lc.prune.by(down, tiny.batches(1, 2, 8), function(layer) return -layer.weight:abs() end,
        { sparsity = 1 / down.weight:numel(), sequential = sequential })
      assert.equal(0, down.weight[1][2]:item())
    end
  end)

  it("names layers outside the blocks", function()
    local model = tiny.decoder "opt"
    for _, role in ipairs { "project.in", "project.out" } do
      for _, method in ipairs { "wanda", "sparsegpt", "alps" } do
        local name = model:linears(role)[1].name
        local wanted = ("prune.%s: %s (%s) lies outside the blocks, where no inputs are collected; take "
          .. "model:linears()"):format(method, name, role)
        local prune = lc.prune[method]
        assert.matches(wanted, message(prune, model:linears(role), tiny.batches(1, 2, 8), { sparsity = 0.5 }), 1, true)
        assert.matches(wanted, message(prune, model:linears() + model:linears(role), tiny.batches(1, 2, 8),
          { sparsity = 0.5 }), 1, true)
      end
      lc.prune.magnitude(model:linears(role), { sparsity = 0.5 })
    end
  end)

  it("leaves the layer alone when its Hessian has no factor", function()
    local model = load()
    local few = { { ids = { { 1, 2, 3 } } } } -- 3 tokens for 16 inputs
    assert.matches("prune.sparsegpt: transformer.h.0.attn.c_attn: Hessian is not positive definite with damp = 0; "
      .. "raise damp or use more calibration text",
      message(lc.prune.sparsegpt, model:linears(), few, { sparsity = 0.5, damp = 0 }), 1, true)
    assert.equal(0.0, model:linears():sparsity())
    lc.prune.sparsegpt(model:linears(), few, { sparsity = 0.5 })
  end)
end)
