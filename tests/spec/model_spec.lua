-- Models as values of the language: selections, parameters, methods on layers, copies, files, perplexity, generation.

local cli = dofile "tests/cli.lua"
local lc = require "lacuna"
local temporary = dofile "tests/temporary.lua"

local function tiny(options)
  local config = {
    family = "gpt2", vocab_size = 31, n_positions = 16, n_embd = 12, n_layer = 2, n_head = 3, seed = 1,
    embd_pdrop = 0, attn_pdrop = 0, resid_pdrop = 0,
  }
  for name, value in pairs(options or {}) do config[name] = value end
  return lc.model(config)
end

local ids = { { 3, 1, 4, 1, 5, 9, 2, 6 }, { 5, 3, 5, 8, 9, 7, 9, 3 } }

local function loss_of(model, options) return model:loss({ ids = ids }, options) end

local function assert_same_tensor(expected, got)
  assert.same(expected.shape, got.shape)
  assert(expected:eq(got):all():item())
end

local function assert_error(pattern, f, ...)
  local ok, message = pcall(f, ...)
  assert(not ok, "no error")
  assert(tostring(message):find(pattern, 1, true), ("%q does not say %q"):format(tostring(message), pattern))
end

describe("a fresh model", function()
  it("has the names and shapes of transformers' state_dict", function()
    local model = tiny { n_inner = 20 }
    assert.same({ 12, 36 }, model:parameter("transformer.h.1.attn.c_attn.weight").shape)
    assert.same({ 36, 12 }, model:linears("attention.qkv")[2].weight.shape)
    assert.same({ 20, 12 }, model:parameter("transformer.h.0.mlp.c_proj.weight").shape)
    assert.equal(28, #model:parameters())
    assert.equal(model:parameter "transformer.wte.weight", model:parameter "lm_head.weight")
    assert.equal(29, #tiny { tie_word_embeddings = false }:parameters())
  end)

  it("is drawn as transformers draws it", function()
    local model = tiny { n_embd = 96, n_layer = 8, vocab_size = 500 }
    local function deviation(name) return model:parameter(name):detach():var():sqrt():item() end
    assert.near(0.02, deviation "transformer.wte.weight", 0.001)
    assert.near(0.02, deviation "transformer.h.3.mlp.c_fc.weight", 0.001)
    assert.near(0.02 / 4, deviation "transformer.h.3.mlp.c_proj.weight", 0.0003)
    assert.near(0.02 / 4, deviation "transformer.h.3.attn.c_proj.weight", 0.0003)
    assert.equal(1, model:parameter("transformer.ln_f.weight"):min():item())
    assert.equal(0, model:parameter("transformer.h.0.mlp.c_fc.bias"):abs():max():item())
  end)

  it("is the same for the same seed, each tensor by itself", function()
    local a, b, other = tiny(), tiny { n_layer = 3 }, tiny { seed = 2 }
    local name = "transformer.h.1.attn.c_attn.weight"
    assert_same_tensor(a:parameter(name), b:parameter(name))
    assert(not a:parameter(name):eq(other:parameter(name)):any():item())
  end)

  it("refuses what its family does not know", function()
    assert_error("unknown option 'n_layers' (did you mean 'n_layer'?)", lc.model, { family = "gpt2", n_layers = 2 })
    assert_error("unknown model family 'gtp2'; there is: gpt2, llama, qwen2, gpt_neox, opt", lc.model,
      { family = "gtp2" })
    assert_error("n_embd 12 is not a multiple of n_head 5", tiny, { n_head = 5 })
    assert_error("activation_function 'mish' is unknown", tiny, { activation_function = "mish" })
    assert_error("initializer_range is 1e+38: such weights do not fit f32", tiny, { initializer_range = 1e38 })
    assert_error("resid_pdrop is 1", tiny, { resid_pdrop = 1 })
  end)
end)

describe("selections", function()
  local model = tiny()

  it("choose by role, name, glob, list and function", function()
    assert.equal(8, #model:linears())
    assert.equal(4, #model:linears "attention")
    assert.equal(2, #model:linears "mlp.up")
    assert.same({ "lm_head" }, model:linears("head"):names())
    assert.same({ "transformer.h.0.mlp.c_fc" }, model:linears("h.0.mlp.c_fc"):names())
    assert.equal(4, #model:linears "*.h.1.*")
    assert.equal(3, #model:linears { "mlp.up", model:linears()[1] })
    assert.equal(4, #model:linears(function(layer, name) return layer.block == 2 and name:find "%.h%.1%." end))
    assert.same({ "transformer.h.1" }, model:blocks("h.1"):names())
  end)

  it("take layers and blocks for their parameters", function()
    local block = model:blocks()[1]
    assert.equal(12, #model:parameters(block))
    assert.equal(4, #model:parameters(model:linears "mlp.up"))
    assert.equal(4, #block:linears())
    assert.equal(10, #model:parameters "norm")
  end)

  it("are sets in the model's order", function()
    local up, down = model:linears "mlp.up", model:linears "mlp.down"
    assert(down + up == model:linears "mlp")
    assert(model:linears "mlp" - down == up)
    assert.equal(up, up + up)
    assert.equal("mlp.up", (down + up)[1].role)
    assert.equal("mlp.down", (up + down)[-1].role)
    local names = {}
    for name, layer in pairs(up) do
      names[#names + 1] = name
      assert.equal(name, layer.name)
    end
    assert.same(up:names(), names)
    local count = 0
    for _ in ipairs(up) do count = count + 1 end
    assert.equal(2, count)
  end)

  it("give one handle for one part, so that parts can be keys", function()
    local seen = { [model:linears()[3]] = true, [model:parameters()[1]] = true }
    assert(seen[model:linears "mlp.up"[1]])
    assert(seen[model:parameter "transformer.wte.weight"])
  end)

  it("that would be empty are errors which say what there is", function()
    local roles = "attention.qkv attention.out mlp.up mlp.down (2 of each)"
    assert_error('linears: no layer matches "mpl"; this gpt2 has: ' .. roles, model.linears, model, "mpl")
    assert_error('no parameter matches "nrom"; this gpt2 has: embedding position norm', model.parameters, model, "nrom")
    assert_error("the difference leaves nothing", function() return model:linears() - "*" end)
    assert_error("chose none of 8 layers", model.linears, model, function() return false end)
    assert_error("two different models", function() return model:linears() + tiny():linears() end)
  end)

  it("answer a wrong name with a near one, or with the names there are", function()
    assert_error("a model has no 'linaers' (did you mean 'linears'?)", function() return model:linaers() end)
    assert_error("a layer has no 'x'; it has bias, block, held, inputs,", function() return model:linears()[1].x end)
    assert_error("a selection has no 'sparsty' (did you mean 'sparsity'?)", function() model:linears():sparsty() end)
    assert_error("a schedule has no 'att' (did you mean 'at'?)", function() lc.schedule(1):att(0) end)
    assert_error("lc.prune has no 'magntude' (did you mean 'magnitude'?)", function() return lc.prune.magntude end)
  end)

  it("name the parameter that a misspelt name is near to", function()
    assert_error("parameter: there is no 'transformer.wte.wieght' (did you mean 'transformer.wte.weight'?)",
      model.parameter, model, "transformer.wte.wieght")
    assert_error('no parameter matches "nope"; this gpt2 has: embedding', model.parameter, model, "nope")
    assert_error("'embedding' is not the name of one parameter", model.parameter, model, "embedding")
  end)

  it("print their layers", function()
    local text = tostring(model:linears "mlp.up")
    assert(text:find("2 layers of gpt2", 1, true))
    assert(text:find("transformer.h.0.mlp.c_fc (mlp.up) 48 x 12", 1, true))
  end)
end)

describe("a layer", function()
  it("has its weight as (O, I), one buffer and one gradient with the file's view", function()
    local model = tiny()
    local layer, p = model:linears()[1], model:parameter "transformer.h.0.attn.c_attn.weight"
    loss_of(model):backward()
    assert_same_tensor(p.grad, layer.weight.grad:t())
    lc.no_grad(function() layer.weight[2][5] = 7 end)
    assert.equal(7, p[5][2]:item())
    p.grad = nil
    assert.is_nil(layer.weight.grad)
  end)

  it("that is fused has q, k and v as rows that can be written", function()
    local model = tiny()
    local layer = model:linears()[1]
    assert_same_tensor(layer.weight { { 13, 24 } }, layer.k)
    lc.no_grad(function() layer.v:zero_() end)
    assert.equal(1 / 3, layer:sparsity())
    assert_error("only a fused attention.qkv has .q, .k and .v", function() return model:linears()[2].q end)
  end)
end)

describe("freezing", function()
  it("stops gradients, and a wholly frozen model builds no graph", function()
    local model = tiny()
    model:freeze "attention"
    loss_of(model):backward()
    assert.is_nil(model:parameter("transformer.h.0.attn.c_attn.weight").grad)
    assert(model:parameter("transformer.h.0.mlp.c_fc.weight").grad)
    model:freeze()
    assert.is_false(loss_of(model).requires_grad)
    model:unfreeze "norm"
    assert.is_true(loss_of(model).requires_grad)
  end)
end)

describe("methods on layers", function()
  it("transform the weight in order, with gradients to weight and params", function()
    local model = tiny()
    local layer = model:linears()[3]
    local dense = loss_of(model):item()
    local params = { scale = lc.param(lc.tensor { 2 }) }
    local first = layer:transform(function(w, s) return w * s.scale end, { params = params })
    local second = layer:transform(function(w) return w / 2 end, { name = "half" })
    assert(tostring(layer):find("transforms: transform.1, half", 1, true))
    local loss = loss_of(model)
    assert.equal(dense, loss:item())
    loss:backward()
    assert(first.scale.grad)
    assert(layer.weight.grad)
    first:remove()
    assert(loss_of(model):item() ~= dense)
    second:remove()
    second:remove()
    assert.equal(dense, loss_of(model):item())
  end)

  it("are applied each once, though one removes itself or others, or installs one, on the way", function()
    local model = tiny()
    local layer, seen = model:linears()[1], {}
    local handles = {}
    local function install(name, act)
      handles[name] = layer:transform(function(w)
        seen[#seen + 1] = name
        if act then act() end
        return w * 1
      end, { name = name })
    end
    install("a", function() handles.a:remove() end)
    install("b")
    install("c", function()
      handles.b:remove()
      handles.d:remove()
      if not handles.e then install "e" end
    end)
    install("d")
    local function pass()
      seen = {}
      model:logits(ids)
      return table.concat(seen)
    end
    assert.equal("abc", pass())
    assert.equal("ce", pass())
  end)

  it("replace the product once", function()
    local model = tiny()
    local layer = model:linears()[3]
    local plain = loss_of(model)
    plain:backward()
    local expected = layer.weight.grad:clone()
    layer.weight.grad = nil
    local handle = layer:replace(function(x, w, b) return x:matmul(w:t()) + b end, { name = "matmul" })
    local loss = loss_of(model)
    assert.near(plain:item(), loss:item(), 1e-6)
    loss:backward()
    assert.near(0, (layer.weight.grad - expected):abs():max():item(), 1e-6)
    assert_error("cannot install the product 'again': 'matmul' is installed there", layer.replace, layer,
      function(x) return x end, { name = "again" })
    handle:remove()
    handle = layer:replace(function(x) return x end)
    assert_error("the last size must be 48", loss_of, model)
    handle:remove()
    layer:replace(function(x, w, b) return (x:matmul(w:t()) + b):to "f64" end)
    assert_error("product 'product' gave f64, expected f32; cast with x:to 'f32'", loss_of, model)
  end)

  it("have names of their own on a layer, and leave the weight its type", function()
    local model = tiny()
    local layer = model:linears()[1]
    local first, second = layer:transform(function(w) return w end), layer:transform(function(w) return w end)
    assert.equal("transform.2", second.name)
    first:remove()
    assert.equal("transform.3", layer:transform(function(w) return w end).name)
    assert_error("c_attn: a method called 'transform.2' is installed there; give this one another name",
      layer.transform, layer, function(w) return w end, { name = "transform.2" })
    layer:transform(function(w) return w:to "f64" end, { name = "wide" })
    assert_error("transform 'wide' gave f64, expected f32; cast with x:to 'f32'", loss_of, model)
  end)

  it("that change the weight are warned of when the model is saved without them", function()
    local saved = cli.recipe([[
      local lc = require "lacuna"
      local model = lc.model { family = "gpt2", vocab_size = 9, n_positions = 4, n_embd = 4, n_layer = 1, n_head = 1 }
      local layer, directory = model:linears()[1], arg[1]
      local handle = layer:transform(function(w) return w * 2 end, { name = "double" })
      model:save(directory)
      handle:remove()
      layer:replace(function(x, w, b) return x:matmul(w:t()) + b end)
      model:save(directory)]], temporary() .. "/saved")
    assert.equal("lacuna: warning: save: transform 'double' is installed on transformer.h.0.attn.c_attn; the file "
      .. "holds the weights without it\n", saved.err)
    assert.equal(0, saved.status)
  end)

  it("keep state from call to call, and read the clock", function()
    local model = tiny()
    local layer, seen = model:linears()[1], {}
    local handle = layer:transform(function(w, s)
      seen[#seen + 1] = s.training
      s.calls = s.calls and s.calls + 1 or lc.ones { 1 }
      return w
    end, { state = { "calls" } })
    assert.is_nil(handle.calls)
    loss_of(model)
    loss_of(model, { train = true })
    assert.equal(2, handle.calls:item())
    assert.same({ false, true }, seen)
    assert.equal(0, handle.step)
    assert_error("has no parameter or state 'cals'", function() return handle.cals end)
    assert_error("'other' is no state", function() handle.other = lc.ones { 1 } end)
  end)

  it("see the state of the first call when a block is recomputed, whose writes are dropped", function()
    local model = tiny()
    model.recompute = true
    local seen = {}
    local handle = model:linears()[1]:transform(function(w, s)
      seen[#seen + 1] = s.calls:item()
      s.calls = s.calls + 1
      return w * 1
    end, { state = { calls = lc.zeros { 1 } } })
    loss_of(model, { train = true }):backward()
    assert.same({ 0, 0 }, seen)
    assert.equal(1, handle.calls:item())
  end)

  it("give their own errors through the engine as they are", function()
    local model = tiny()
    local problem = { code = 7 }
    local handle = model:linears()[1]:transform(function() error(problem) end)
    local ok, caught = pcall(loss_of, model)
    assert.is_false(ok)
    assert.equal(problem, caught)
    handle:remove()
    model:linears()[1]:transform(function() return 5 end, { name = "five" })
    assert_error("transform 'five' on transformer.h.0.attn.c_attn must return a tensor, got 5", loss_of, model)
    assert_error("its functions belong to one model", model.clone, model)
  end)
end)

describe("copies", function()
  it("are independent, and snapshots bring weights back under the masks held now", function()
    local model = tiny()
    local copy, snapshot = model:clone(), model:snapshot()
    assert.matches("^snapshot of %d+ tensors, %d+ numbers$", tostring(snapshot))
    local before = loss_of(model):item()
    lc.prune.magnitude(model:linears(), { sparsity = 0.5 })
    assert.near(0.5, model:sparsity(), 0.01)
    assert.equal(before, loss_of(copy):item())
    local held = model:clone()
    lc.no_grad(function() held:linears()[1].weight:fill_(1) end)
    assert.near(0.5, held:sparsity(), 0.01) -- the clone holds the mask too
    model:restore(snapshot)
    assert.near(0.5, model:sparsity(), 0.01)
    copy:restore(snapshot)
    assert.equal(before, loss_of(copy):item())
    assert_error("which this model has not", tiny { n_layer = 1 }.restore, tiny { n_layer = 1 }, snapshot)
  end)

  it("come back from files the same, masks included", function()
    local directory = temporary()
    local model = tiny { tie_word_embeddings = false, activation_function = "relu" }
    lc.prune.magnitude(model:linears "mlp", { sparsity = 0.4 })
    model:save(directory)
    local back = lc.load(directory)
    assert_same_tensor(model:logits(ids), back:logits(ids))
    assert_same_tensor(model:linears("mlp")[1].held, back:linears("mlp")[1].held)
    os.execute("rm -r " .. directory)
  end)
end)

describe("perplexity", function()
  local model = tiny()
  local text = {}
  for i = 1, 41 do text[i] = (i * i + 3 * i) % 31 end

  -- Sum and number of the losses of tokens [first, last], which stand in the window from `start`.
  local function score(start, first, last)
    local window, labels = {}, {}
    for i = start, last do
      window[#window + 1] = text[i]
      labels[#labels + 1] = i >= first and text[i] or -100
    end
    local scored = last - math.max(first, start + 1) + 1
    return model:loss({ ids = { window }, labels = { labels } }):item() * scored, scored
  end

  it("by windows drops the tail", function()
    local sum, count = 0, 0
    for start = 1, 31, 10 do
      local s, n = score(start, start, start + 9)
      sum, count = sum + s, count + n
    end
    local got, how = model:perplexity(text, { window = 10 })
    assert.near(math.exp(sum / count), got, 1e-4)
    assert.same({ protocol = "windows", tokens = 36, windows = 4 }, how)
  end)

  it("by strides scores every target once, the tail too", function()
    local sum, count = score(1, 1, 10)
    local previous, start = 10, 1
    while previous < #text do
      start = start + 4
      local last = math.min(start + 9, #text)
      local s, n = score(start, previous + 1, last)
      sum, count, previous = sum + s, count + n, last
    end
    local got, how = model:perplexity(text, { protocol = "strided", window = 10, stride = 4 })
    assert.near(math.exp(sum / count), got, 1e-4)
    assert.equal(40, count)
    assert.equal(40, how.tokens)
  end)

  it("scores only the first windows where asked", function()
    local function same(part, opts)
      local got, how = model:perplexity(text, opts)
      opts.windows = nil
      local want, all = model:perplexity({ table.unpack(text, 1, part) }, opts)
      assert.equal(want, got)
      assert.same(all, how)
      return how.windows
    end
    assert.equal(2, same(20, { window = 10, windows = 2 }))
    assert.equal(3, same(18, { protocol = "strided", window = 10, stride = 4, windows = 3 }))
    assert.equal(4, same(#text, { window = 10, windows = 100 }))
    assert.equal(4, same(#text, { window = 10, windows = 0 }))
  end)

  it("of batches scores their labels", function()
    local one, two = { ids = { { 1, 2, 3 } } }, { ids = { { 4, 5 }, { 6, 7 } }, labels = { { 4, 5 }, { 6, -100 } } }
    local expected = math.exp((2 * model:loss(one):item() + model:loss(two):item()) / 3)
    local got, how = model:perplexity { one, two }
    assert.near(expected, got, 1e-4)
    assert.same({ protocol = "batches", tokens = 3, windows = 3 }, how)
    local list = { two, one }
    assert.near(got, (model:perplexity(function() return table.remove(list) end)), 1e-4)
    assert_error("window, stride and windows are for a dataset", model.perplexity, model, { one }, { window = 3 })
    assert_error("no labelled token", model.perplexity, model, {})
  end)

  it("says what is wrong with its arguments", function()
    assert_error("the text has 5 tokens, fewer than 16", model.perplexity, model, { 1, 2, 3, 4, 5 })
    assert_error("window is 99; this model takes 2 to 16", model.perplexity, model, text, { window = 99 })
    assert_error("protocol 'windows' has no stride", model.perplexity, model, text, { stride = 3 })
    assert_error("unknown option 'strid'", model.perplexity, model, text, { strid = 3 })
  end)
end)

describe("generation", function()
  local model = tiny()

  it("draws the same for the same seed, whatever else is in the batch", function()
    local options = { tokens = 6, temperature = 2, seed = 5, stop = false }
    local alone = model:generate({ 1, 2, 3 }, options)
    assert.equal(6, #alone)
    assert.same(alone, model:generate({ { 1, 2, 3 }, { 4, 5, 6, 7, 8 } }, options)[1])
    options.seed = 6
    assert.is_not.same(alone, model:generate({ 1, 2, 3 }, options))
  end)

  it("with top_k = 1 or a tiny top_p is greedy", function()
    local greedy = model:generate({ 7, 8 }, { tokens = 5, stop = false })
    assert.same(greedy, model:generate({ 7, 8 }, { tokens = 5, stop = false, top_k = 1 }))
    assert.same(greedy, model:generate({ 7, 8 }, { tokens = 5, stop = false, top_p = 1e-6 }))
  end)

  it("draws each token as often as temperature, then top_k, then top_p of what is left say", function()
    local tokens, draws = 11, 1000
    local spread = tiny { vocab_size = tokens, n_layer = 1, initializer_range = 0.4 }
    local scores, prompts = spread:logits({ { 1, 2, 3 } })[1][3], {}
    for i = 1, draws do prompts[i] = { 1, 2, 3 } end
    for _, o in ipairs {
      { temperature = 1 }, { temperature = 3 }, { top_k = 3 }, { top_p = 0.7 },
      { temperature = 2, top_k = 4, top_p = 0.8 },
    } do
      local best, order = (scores / (o.temperature or 1)):softmax():topk(o.top_k or tokens, 1)
      local want, whole, sum = lc.zeros { tokens }, best:sum():item(), 0
      for rank, p in ipairs(best:totable()) do
        if sum < (o.top_p or 1) * whole then want[order[rank]:item() + 1] = p end
        sum = sum + p
      end
      local got = lc.zeros { tokens }
      o.tokens, o.stop, o.seed = 1, false, 3
      for _, drawn in ipairs(spread:generate(prompts, o)) do got[drawn[1] + 1]:add_(1 / draws) end
      want = want / want:sum()
      assert.is_true(got:eq(0):logical_or(want:gt(0)):all():item()) -- nothing is drawn that was left out
      assert.is_true((got - want):abs():max():item() < 0.06)
    end
  end)

  it("continues a text with the blank that its first token begins with", function()
    local tokenizer = lc.tokenizer "tests/golden/tokenizer_json/llama2"
    local llama = lc.model { family = "llama", vocab_size = #tokenizer, hidden_size = 16, intermediate_size = 24,
      num_hidden_layers = 1, num_attention_heads = 2, max_position_embeddings = 64, tokenizer = tokenizer }
    local blanks = 0
    local prompt = tokenizer:encode("Hello there"):totable()
    for seed = 1, 10 do
      local options = { tokens = 6, temperature = 2, seed = seed, stop = false }
      local text, both = llama:generate("Hello there", options), { table.unpack(prompt) }
      for _, id in ipairs(llama:generate(prompt, options)) do both[#both + 1] = id end
      assert.equal(tokenizer:decode(both), tokenizer:decode(prompt) .. text)
      if text:sub(1, 1) == " " then blanks = blanks + 1 end
    end
    assert.is_true(blanks > 0)
    -- Behind no text there is no blank; and bytes that are no character are not taken together.
    local options = { tokens = 6, temperature = 2, seed = 1, stop = false }
    for _, case in ipairs { "", "Hi \u{FFFD}" } do
      for seed = 1, 10 do
        options.seed = seed
        local more = llama:generate(tokenizer:encode(case):totable(), options)
        assert.equal(tokenizer:decode(more), llama:generate(case, options))
      end
    end
  end)

  it("stops at the stop token, which it leaves out", function()
    local free = model:generate({ 7, 8 }, { tokens = 5, stop = false })
    assert.same({}, model:generate({ 7, 8 }, { tokens = 5, stop = free[1] }))
  end)

  it("goes on to the last position when nothing is said of tokens", function()
    assert.equal(14, #model:generate({ 1, 2, 3 }, { stop = false }))
  end)

  it("says what does not fit", function()
    assert_error("a prompt of 3 tokens and 50 more do not fit into 16 positions", model.generate, model, { 1, 2, 3 },
      { tokens = 50 })
    assert_error("a prompt of 17 tokens and 1 more do not fit into 16 positions", model.generate, model,
      lc.zeros({ 17 }, { dtype = "i64" }))
    assert_error("generate: option 'stop' must be an integer, got the string 'a'", model.generate, model, { 1 },
      { stop = "a" })
    assert_error("prompt 2 is empty", model.generate, model, { { 1 }, {} }, { tokens = 2 })
    assert_error("has no tokenizer", model.generate, model, "hello", { tokens = 2 })
    assert_error("id 31 is outside 0..30", model.generate, model, { 31 }, { tokens = 2 })
  end)
end)

describe("a batch", function()
  local model = tiny()

  it("is checked before anything is computed", function()
    local row = { { 1, 2 } }
    assert_error("label 31 is outside 0..30", model.loss, model, { ids = row, labels = { { 1, 31 } } })
    assert_error("no token of this batch has a label", model.loss, model, { ids = row, labels = { { 1, -100 } } })
    assert_error("labels is (1, 3), ids are (1, 2)", model.loss, model, { ids = row, labels = { { 1, 2, 3 } } })
    local long = lc.zeros({ 1, 17 }, { dtype = "i64" })
    assert_error("the input has 17 tokens; this gpt2 takes at most 16", model.logits, model, long)
    assert_error("use x:to 'i64'", model.logits, model, lc.zeros { 1, 5 })
  end)

  it("may be ids alone, and one row", function()
    assert_same_tensor(model:logits { { 1, 2, 3 } }, model:logits { 1, 2, 3 })
    assert.equal(model:loss({ ids = ids }):item(), model:loss(ids):item())
  end)

  it("with dropout differs from pass to pass, and repeats from the same model", function()
    local noisy = { embd_pdrop = 0.2, attn_pdrop = 0.2, resid_pdrop = 0.2 }
    local a, b = tiny(noisy), tiny(noisy)
    local first, second = loss_of(a, { train = true }):item(), loss_of(a, { train = true }):item()
    assert(first ~= second)
    assert.equal(first, loss_of(b, { train = true }):item())
    assert.equal(loss_of(a):item(), loss_of(b):item())
  end)
end)
