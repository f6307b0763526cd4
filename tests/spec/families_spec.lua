-- Llama, Qwen2, GPT-NeoX and OPT against transformers: tiny models of odd sizes made by tests/golden/decoders.py, which
-- between them turn every switch of their configurations. For each tensor max|a - b| <= 1e-4 max|b| in f32, 1e-8 in
-- f64. Then what every family must do alike.

local lc = require "lacuna"
local tiny = dofile "tests/tiny.lua"
local temporary = dofile "tests/temporary.lua"

local variants = {
  llama = {
    "plain", "biases", "linear", "dynamic", "yarn", "yarn_mscale", "longrope_short", "longrope_long", "llama3",
    "proportional",
  },
  qwen2 = { "plain", "window" },
  gpt_neox = { "plain", "sequential", "linear", "old" },
  opt = { "plain", "after", "bare", "old" },
}
local families = { "llama", "qwen2", "gpt_neox", "opt" }

local function golden(family, variant) return ("tests/golden/%s_%s"):format(family, variant) end

local function open(family, variant) return lc.io.open(golden(family, variant) .. "/expected.safetensors") end

local function assert_near(expected, got, tolerance, what)
  assert.same(expected.shape, got.shape)
  local worst = (got:detach() - expected):abs():max():item() / expected:abs():max():item()
  assert(worst <= tolerance, ("%s: error %g, at most %g allowed"):format(what, worst, tolerance))
end

--- Softmax takes no notice of a shift common to all keys: where heads are not turned, the gradient of their biases is
-- rounding alone, and AdamW makes steps of it.
local function is_rounding(family, name) return family == "opt" and name:find "k_proj.bias$" end

local function check(family, variant, dtype, tolerance)
  local model, file = lc.load(golden(family, variant), { dtype = dtype }), open(family, variant)
  local batch = { ids = file.ids, labels = file.labels }
  assert_near(file.logits, model:logits(file.ids), tolerance, "logits")
  local loss = model:loss(batch)
  assert_near(file.loss, loss, tolerance, "loss")
  loss:backward()
  for name, p in pairs(model:parameters()) do
    if is_rounding(family, name) then
      assert(p.grad:abs():max():item() < tolerance / 100, name)
    else
      assert_near(file["grad." .. name], p.grad, tolerance, name .. ".grad")
    end
  end
end

for _, family in ipairs(families) do
  describe(family .. " gives transformers' numbers", function()
    for _, variant in ipairs(variants[family]) do
      it(("as '%s', in f32 and f64: logits, loss, every gradient"):format(variant), function()
        check(family, variant, "f32", 1e-4)
        check(family, variant, "f64", 1e-8)
      end)
    end

    it("under padding masks on either side", function()
      local model, file = lc.load(golden(family, "plain")), open(family, "plain")
      for _, side in ipairs { "right", "left" } do
        local mask = file[side]
        local kept = mask:ne(0):unsqueeze(-1)
        local logits = model:logits(file.ids, { attention_mask = mask })
        assert_near(file[side .. ".logits"] * kept, logits * kept, 1e-4, side .. " logits")
      end
    end)

    it("generating greedily, alone and as a batch padded on the left", function()
      local model, file = lc.load(golden(family, "plain")), open(family, "plain")
      local prompts = { file.ids[1] { { 1, 3 } }:tolist(), file.ids[2] { { 1, 7 } }:tolist() }
      local expected = { file["generated.1"]:tolist(), file["generated.2"]:tolist() }
      local options = { tokens = 9, stop = false }
      assert.same(expected, model:generate(prompts, options))
      assert.same(expected[1], model:generate(prompts[1], options))
    end)

    it("through twenty steps of AdamW", function()
      local file = open(family, "plain")
      local batches = {}
      for i = 1, 20 do batches[i] = { ids = file.ids } end
      for dtype, tolerance in pairs { f32 = 1e-4, f64 = 1e-8 } do
        local model, losses = lc.load(golden(family, "plain"), { dtype = dtype }), {}
        for t in lc.steps(model, batches, {
          steps = 20, lr = 2e-3, betas = { 0.9, 0.95 }, eps = 1e-6, weight_decay = 0.1, clip = 1, progress = false,
        }) do
          losses[#losses + 1] = t.loss
        end
        assert_near(file.losses, lc.tensor(losses, { dtype = "f64" }), tolerance, dtype .. " losses")
        for name, p in pairs(model:parameters()) do
          if not is_rounding(family, name) then
            assert_near(file["final." .. name], p, dtype == "f32" and 1e-4 or 1e-7, dtype .. " " .. name)
          end
        end
      end
    end)
  end)
end

local ids = lc.tensor({ { 3, 1, 4, 1, 5, 9, 2 }, { 2, 7, 1, 8, 2, 8, 1 } }, { dtype = "i64" })

local function same(a, b) return a:eq(b):all():item() end

local function gradients(model)
  model:loss({ ids = ids }, { train = true }):backward()
  local all = {}
  for name, p in pairs(model:parameters()) do
    all[name], p.grad = p.grad, nil
  end
  return all
end

-- family -> the roles of the layers in a block, in order
local roles = {
  llama = "attention.q attention.k attention.v attention.out mlp.gate mlp.up mlp.down",
  qwen2 = "attention.q attention.k attention.v attention.out mlp.gate mlp.up mlp.down",
  gpt_neox = "attention.qkv attention.out mlp.up mlp.down",
  opt = "attention.k attention.v attention.q attention.out mlp.up mlp.down",
}

for _, family in ipairs(families) do
  describe("a fresh " .. family, function()
    it("is drawn as transformers draws it, its padding's embedding zero", function()
      local key = family == "opt" and "init_std" or "initializer_range"
      local model = tiny.decoder(family, { hidden_size = 96, vocab_size = 500, [key] = 0.05, pad_token_id = 1 })
      local padded = family ~= "gpt_neox"
      for name, p in pairs(model:parameters()) do
        local values = p:detach()
        if p.ndim > 1 and p:numel() > 2000 then
          assert.near(0.05, values:var():sqrt():item(), 0.003, name)
        elseif p.ndim == 1 then
          assert.equal(name:find "bias$" and 0 or 1, values:min():item(), name)
        end
        if name:find "embed_tokens" then assert.equal(padded, values[2]:abs():max():item() == 0) end
      end
    end)

    it("has its layers by their roles", function()
      local model, found = tiny.decoder(family), {}
      for _, layer in ipairs(model:blocks()[1]:linears()) do found[#found + 1] = layer.role end
      assert.equal(roles[family], table.concat(found, " "))
      assert.equal(#found * 2, #model:linears())
      assert.equal(1, #model:linears "head")
      assert(tostring(model):find(family .. ": 2 blocks, width 18, vocabulary 53, 17 positions", 1, true))
    end)

    it("comes back from files the same, held masks included", function()
      local model = tiny.decoder(family)
      lc.prune.magnitude(model:linears(), { sparsity = 0.4 })
      local directory = temporary()
      model:save(directory)
      local back = lc.load(directory)
      assert(same(model:logits(ids), back:logits(ids)))
      for i, layer in ipairs(back:linears()) do assert(same(model:linears()[i].held, layer.held)) end
      os.execute("rm -r " .. directory)
    end)

    it("trains under a held mask, clones and freezes", function()
      local model = tiny.decoder(family)
      local mask = lc.prune.magnitude(model:linears(), { sparsity = 0.5 })
      model:freeze "attention.out"
      local frozen = model:linears("attention.out")[1].weight:clone()
      lc.train(model, tiny.batches(4, 2, 9), { steps = 4, batch = 2, lr = 1e-2, progress = false })
      assert.equal(0, mask:violations(model))
      assert(same(frozen, model:linears("attention.out")[1].weight))
      assert(same(model:logits(ids), model:clone():logits(ids)))
    end)

    it("gives the same gradients when blocks are recomputed", function()
      local model = tiny.decoder(family)
      local kept = gradients(model)
      model.recompute = true
      for name, gradient in pairs(gradients(model)) do assert(same(kept[name], gradient), name) end
    end)

    it("gives each text in a padded batch the loss that it has alone", function()
      local model = tiny.decoder(family)
      local mask = { { 1, 1, 1, 1, 0, 0, 0 }, { 1, 1, 1, 1, 1, 1, 1 } }
      local alone = 3 * model:loss({ ids = ids { 1, { 1, 4 } }:unsqueeze(1) }):item() +
        6 * model:loss({ ids = ids { 2 }:unsqueeze(1) }):item()
      assert.near(alone / 9, model:loss({ ids = ids, attention_mask = mask }):item(), 1e-6)
    end)

    it("measures perplexity", function()
      local model = tiny.decoder(family)
      local value, about = model:perplexity(tiny.batches(3, 2, 9))
      assert(value > 30 and value < 90 and about.tokens > 0)
    end)
  end)
end

describe("a layer of gpt_neox", function()
  it("has q, k and v as rows by heads, which can be written", function()
    local layer = tiny.decoder("gpt_neox"):linears()[1]
    assert.same({ 3, 6, 18 }, layer.k.shape)
    assert(same(layer.weight { { 7, 12 } }, layer.k[1]))
    assert(same(layer.weight { { 49, 54 } }, layer.v[3]))
    lc.no_grad(function() layer.q:zero_() end)
    assert.equal(1 / 3, layer:sparsity())
    assert.equal(0, layer.weight[37]:abs():max():item())
    assert(layer.weight[43]:abs():max():item() > 0)
  end)
end)

describe("the families refuse", function()
  local function refuses(message, family, config)
    local ok, problem = pcall(tiny.decoder, family, config)
    assert.is_false(ok)
    assert(tostring(problem):find(message, 1, true), problem)
  end

  it("configurations that cannot be", function()
    refuses("hidden_size 18 is not a multiple of num_attention_heads 4", "llama", { num_attention_heads = 4 })
    refuses("num_attention_heads 3 is not a multiple of num_key_value_heads 2", "llama", { num_key_value_heads = 2 })
    refuses("heads of size 7 cannot turn 7 columns in pairs", "llama", { head_dim = 7 })
    refuses("pad_token_id 53 is outside the vocabulary of 53", "qwen2", { pad_token_id = 53 })
    refuses("this family turns whole heads", "llama", { rope_parameters = { partial_rotary_factor = 0.5 } })
    refuses("rope_type 'su' is unknown; there is default, linear, dynamic", "llama", { rope_scaling = { type = "su" } })
    refuses('"factor" is missing', "llama", { rope_scaling = { type = "linear" } })
    refuses("factor is 0; it must be above 0", "llama", { rope_parameters = { rope_type = "dynamic", factor = 0 } })
    refuses("short_factor has 2 numbers; these heads turn 4 pairs", "llama",
      { rope_parameters = { rope_type = "longrope", short_factor = { 1, 1 }, long_factor = { 1, 1 } } })
    refuses("high_freq_factor 1 must be above low_freq_factor 4", "llama",
      { rope_scaling = { type = "llama3", factor = 8, low_freq_factor = 4, high_freq_factor = 1 } })
    refuses("rope_parameters differ by layer type", "qwen2", { rope_parameters = { full_attention = { factor = 2 } } })
    refuses("partial_rotary_factor is 1.5; it must be at most 1", "gpt_neox", { rotary_pct = 1.5 })
    refuses("rope_type 'yarn' needs an even number of turned columns, not 3", "gpt_neox",
      { rotary_pct = 0.5, rope_scaling = { type = "yarn", factor = 2 } })
    refuses("rms_norm_eps is -1; it must be at least 0", "llama", { rms_norm_eps = -1 })
    refuses("initializer_range is -0.02; it must be at least 0", "qwen2", { initializer_range = -0.02 })
    refuses("a configuration's numbers are finite, got inf", "llama", { rope_theta = math.huge })
    refuses("layerdrop 0.1 is not supported", "opt", { layerdrop = 0.1 })
  end)

  it("texts longer than a window or the positions", function()
    local long = { ids = lc.zeros({ 1, 10 }, { dtype = "i64" }) }
    local windowed = tiny.decoder("qwen2", { use_sliding_window = true, sliding_window = 9, max_window_layers = 1 })
    assert.has_error(function() windowed:loss(long) end, "the input has 10 tokens; this qwen2 takes at most 9")
    local unused = tiny.decoder("qwen2", { use_sliding_window = true, sliding_window = 9, max_window_layers = 2 })
    assert(unused:loss(long))
    local stretched = tiny.decoder("llama",
      { max_position_embeddings = 5, rope_parameters = { rope_type = "dynamic", factor = 2 } })
    assert(stretched:loss(long))
  end)
end)
