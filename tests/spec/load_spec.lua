-- Loading checkpoints: a head that is there twice, and what a directory may lack or have in another way.

local cli = require "tests.cli"
local files = require "lacuna.core.files"
local lc = require "lacuna"
local temporary = dofile "tests/temporary.lua"
local tiny = dofile "tests/tiny.lua"

local directory
setup(function()
  directory = temporary(".load")
  files.make_dirs(directory)
end)
teardown(function() files.remove_tree(directory) end)

local function path(name) return directory .. "/" .. name end

local function distance(a, b) return (a - b):abs():max():item() end

--- A tied model of each family.
local function tied(family)
  if family == "gpt2" then return tiny.gpt2 {} end
  return tiny.decoder(family, { tie_word_embeddings = true })
end

--- The tensors of a saved model, through `change`, written over its file.
local function rewrite(at, change)
  local tensors = {}
  for name, t in pairs(lc.io.open(at .. "/model.safetensors")) do tensors[name] = t end
  change(tensors)
  lc.io.save(at .. "/model.safetensors", tensors)
end

local families = { gpt2 = "lm_head", llama = "lm_head", qwen2 = "lm_head", gpt_neox = "embed_out", opt = "lm_head" }
local ids = { { 1, 5, 7, 2, 9, 30 } }

describe("a head that config.json ties to the embedding", function()
  for family, head in pairs(families) do
    it("of " .. family .. " may be in the file too, alone or beside the embedding", function()
      local model, at = tied(family), path(family)
      model:save(at)
      local embedding = model:parameter(head .. ".weight")
      rewrite(at, function(t) t[head .. ".weight"] = embedding end)
      local both = lc.load(at)
      assert.equal(0, distance(model:logits(ids), both:logits(ids)))
      assert.equal(#model:parameters(), #both:parameters())
      rewrite(at, function(t)
        for name in pairs(t) do
          if t[name].shape[1] == 53 and name ~= head .. ".weight" then t[name] = nil end
        end
      end)
      assert.equal(0, distance(model:logits(ids), lc.load(at):logits(ids)))
    end)

    it("of " .. family .. " and has other numbers is used, and said", function()
      local model, at = tied(family), path(family .. "_other")
      model:save(at)
      local embedding = model:parameter(head .. ".weight"):detach()
      rewrite(at, function(t) t[head .. ".weight"] = embedding * 2 end)
      local result = cli.shell(([[%s -e '
        local lc = require "lacuna"
        local model = lc.load "%s"
        print(#model:parameters())
        model:save "%s"
        lc.load "%s"']]):format(cli.program, at, at .. "_saved", at .. "_saved"))
      assert.equal(("%d\n"):format(#model:parameters() + 1), result.out)
      assert.equal(("lacuna: warning: %s: config.json ties the head to the embedding, but the file has a head with "
        .. "other numbers: it is used, and tie_word_embeddings is false now\n"):format(at), result.err)
      assert.is_true(distance(model:logits(ids) * 2, lc.load(at .. "_saved"):logits(ids)) < 1e-5)
    end)
  end

  it("and has another shape is refused", function()
    local at = path "shape"
    tiny.decoder("llama", { tie_word_embeddings = true }):save(at)
    rewrite(at, function(t) t["lm_head.weight"] = lc.ones { 50, 18 } end)
    assert.error_matches(function() lc.load(at) end, "lm_head.weight is (50, 18), not (53, 18)", nil, true)
  end)
end)

describe("weights in half precision", function()
  for family in pairs(families) do
    it("of " .. family .. " are read as they are", function()
      local model = tied(family)
      for _, dtype in ipairs { "f16", "bf16" } do
        local at = path(family .. "_" .. dtype)
        model:save(at)
        local tensors = {}
        for name, t in pairs(lc.io.open(at .. "/model.safetensors")) do tensors[name] = t end
        lc.io.save(at .. "/model.safetensors", tensors, { dtype = dtype })
        local half = lc.load(at)
        for name, p in pairs(model:parameters()) do
          local wanted, got = p:detach():to(dtype):to "f32", half:parameter(name)
          assert.equal("f32", got.dtype)
          assert.equal(0, distance(wanted, got:detach()), name)
        end
      end
    end)
  end
end)

describe("buffers in a file", function()
  it("are passed over", function()
    local buffers = {
      opt = { "model.decoder.version" },
      gpt_neox = { "gpt_neox.layers.0.attention.bias", "gpt_neox.layers.0.attention.masked_bias" },
    }
    for family, names in pairs(buffers) do
      local model, at = tied(family), path("buffers_" .. family)
      model:save(at)
      rewrite(at, function(t)
        for _, name in ipairs(names) do t[name] = lc.tensor { 3 } end
      end)
      assert.equal(0, distance(model:logits(ids), lc.load(at):logits(ids)))
    end
  end)
end)

describe("what is no whole model", function()
  local function refuses(at, text)
    local ok, message = pcall(lc.load, at)
    assert.is_false(ok)
    assert.is_truthy(tostring(message):find(text, 1, true), tostring(message))
  end

  --- A saved llama in a fresh directory, then changed by a shell's command there.
  local count = 0
  setup(function() tiny.decoder("llama"):save(path "part") end)
  local function saved(command)
    count = count + 1
    local at = path("part" .. count)
    assert.equal(0, cli.shell(("cp -r %s %s && cd %s && %s"):format(path "part", at, at, command)).status)
    return at
  end

  it("says which file is missing", function()
    local text = ": no config.json in this directory, and no .gguf or .bin of llama2.c: not a model"
    local at = saved "rm config.json"
    refuses(at, at .. text)
    refuses(saved "rm config.json && echo >pytorch_model.bin && echo >training_args.bin", text)
    refuses(saved "rm -r *", text)
    refuses(saved "rm *.safetensors", ": none of model.safetensors, model.safetensors.index.json, pytorch_model.bin "
      .. "and pytorch_model.bin.index.json is in this directory")
    refuses(saved "echo 'version https://git-lfs.github.com/spec/v1' >model.safetensors",
      "model.safetensors: what git-lfs puts in a large file's place, not the file: get it with git lfs pull")
    refuses(saved [[sed -i '0,/{/s//{"is_causal": false,/' config.json]],
      "config.json: is_causal is false: attention to later tokens is not built for llama")
    refuses(saved "mv config.json adapter_config.json", ": an adapter without its model (adapter_config.json, no "
      .. "config.json): merge it into that model first")
  end)

  it("says that a file is not a directory", function()
    local text = ": neither a GGUF file, nor a .bin of llama2.c, nor a .pt: load the directory that holds "
      .. "config.json and the weights"
    local at = saved "true"
    refuses("tests/golden/checkpoints/state.pt",
      "tests/golden/checkpoints/state.pt: a state dict says nothing of its model: put its config.json beside it")
    refuses(saved "rm *.safetensors; touch a.pt b.pt", ": has several files *.pt: load one of them by its path")
    for _, file in ipairs { at .. "/model.safetensors", at .. "/config.json",
                            "tests/golden/checkpoints/sharded/pytorch_model-00001-of-00002.bin", "Makefile" } do
      refuses(file, file .. text)
    end
  end)

  it("says what is wrong with an index", function()
    local function indexed(map)
      local index = [[mv model.safetensors a.safetensors && echo '{"weight_map": %s}' >model.safetensors.index.json]]
      return saved(index:format(map))
    end
    for _, file in ipairs { '"../part1/a.safetensors"', '"/etc/passwd"', '""', "3" } do
      refuses(indexed(('{"model.norm.weight": %s}'):format(file)),
        "model.safetensors.index.json: tensor model.norm.weight: not the name of a file beside the index")
    end
    local at = indexed '{"model.norm.weight": "b.safetensors"}'
    refuses(at, ("%s/b.safetensors: is not there, and %s/model.safetensors.index.json names it"):format(at, at))
    refuses(indexed '{"model.norm.bias": "a.safetensors"}',
      "tensor model.norm.bias is not in a.safetensors, where the index has it")
    refuses(indexed "[]", '"weight_map" is an array, expected an object')
    refuses(indexed "{}", "21 missing: model.embed_tokens.weight, ")
  end)

  it("names types and kinds of weights that are not read", function()
    local data = assert(io.open("tests/golden/gguf/llama_plain.gguf", "rb")):read "a"
    local name = "blk.0.attn_norm.weight"
    local at = data:find(name, 1, true) + #name + 4 + 8
    assert.equal(0, ("<I4"):unpack(data, at))
    local function typed(number)
      files.write(path "type.gguf", data:sub(1, at - 1) .. ("<I4"):pack(number) .. data:sub(at + 4))
    end
    typed(24)
    refuses(path "type.gguf", "model.layers.0.input_layernorm.weight is I8, which lacuna does not read")
    typed(99)
    refuses(path "type.gguf", "tensor " .. name .. " has type 99, which lacuna does not know; it reads F64 F32 F16")
    local quantised = saved [[sed -i 's/}$/,"quantization_config": {"quant_method": "gptq"}}/' config.json]]
    assert.equal(21, #lc.load(quantised):parameters())
    rewrite(quantised, function(t)
      local weight = "model.layers.0.mlp.up_proj."
      t[weight .. "qweight"], t[weight .. "weight"] = lc.tensor({ 1 }, { dtype = "i32" }), nil
    end)
    refuses(quantised, "1 unexpected: model.layers.0.mlp.up_proj.qweight; config.json has a quantization_config, and "
      .. "lacuna reads quantised weights from GGUF alone")
  end)

  it("says how to come from tokenizer.model to what is read", function()
    local ok, message = pcall(lc.tokenizer, saved "echo >tokenizer.model")
    assert.is_false(ok)
    assert.is_truthy(message:find("tokenizer.model is a file that lacuna does not read: transformers makes", 1, true))
  end)
end)

describe("a model in the hub's cache", function()
  it("is found by its name, and says what is missing of it", function()
    local cache = path "cache"
    tiny.gpt2({}):save(cache .. "/models--org--tiny/snapshots/0a1b")
    local function load(name)
      local code = ([[print(require "lacuna".load("%s").family)]]):format(name)
      return cli.shell(("HF_HUB_CACHE=%s %s -e '%s'"):format(cache, cli.program, code))
    end
    local text = "models--org--tiny/refs/main is missing, which says what snapshot to load"
    assert.truthy(load("org/tiny").err:find(text, 1, true))
    files.make_dirs(cache .. "/models--org--tiny/refs")
    files.write(cache .. "/models--org--tiny/refs/main", "0a1b")
    assert.equal("gpt2\n", load("org/tiny").out)
    assert.truthy(load("org/none").err:find("fetch it with: hf download org/none", 1, true))
  end)
end)
