-- Checkpoint files beside safetensors, read bit for bit as PyTorch and the gguf package read them: the files of
-- tests/golden/checkpoints, made by tests/golden/checkpoints.py.

local lc = require "lacuna"
local json = require "lacuna.json"
local temporary = dofile "tests/temporary.lua"
local GOLDEN = "tests/golden/checkpoints/"

--- Every tensor of `expected` is in the file, with the same dtype, shape and bits.
local function check_equal(path, expected)
  local file, wanted = lc.io.open(GOLDEN .. path), lc.io.open(GOLDEN .. expected)
  local count = 0
  for name, want in pairs(wanted) do
    local got = file[name]
    assert.is_truthy(got, name .. " is missing")
    assert.equal(want.dtype, got.dtype, name)
    assert.same(want.shape, got.shape, name)
    assert.same(want:flatten():totable(), got:flatten():totable(), name)
    count = count + 1
  end
  return file, count
end

describe("torch.save", function()
  for _, name in ipairs { "state.pt", "legacy.pt", "repacked.pt" } do
    it("every dtype, stride, offset and shared storage of " .. name .. " is what PyTorch has", function()
      local file, count = check_equal(name, "expected_state.safetensors")
      assert.equal(16, count)
      assert.equal(17, #file)
      assert.error_matches(function()
        return file.i8
      end, "tensor i8 has dtype I8, which lacuna does not read; it reads F64 F32 F16 BF16 I64 I32 U8 BOOL")
    end)
  end

  it("views are read with a cast, too", function()
    for _, archive in ipairs { "state.pt", "repacked.pt" } do
      local file = lc.io.open(GOLDEN .. archive)
      for _, name in ipairs { "transposed", "expanded", "shared" } do
        assert.same(file[name]:flatten():totable(), lc.io.read(file, name, "f64"):flatten():totable())
      end
    end
  end)

  it("a state dict under a key, or with module. before every name, is found", function()
    for _, name in ipairs { "nested.pt", "prefixed.pt" } do
      local file, count = check_equal(name, "expected_linear.safetensors")
      assert.equal(2, count)
      assert.equal(2, #file)
    end
  end)

  it("a whole model's, beside its config.json, is loaded by its path or as the only one of its directory", function()
    local file = assert(io.open(GOLDEN .. "model/logits.json"))
    local wanted = lc.tensor(json.decode(file:read "a", "logits.json"), { dtype = "f64" })
    file:close()
    for _, path in ipairs { "model", "model/epoch-3.pt" } do
      local logits = lc.load(GOLDEN .. path, { dtype = "f64" }):logits { ids = { { 1, 4, 1, 5, 9, 2 } } }
      assert.is_true((logits[1] - wanted):abs():max():item() < 1e-6)
    end
  end)

  it("a state dict that stands beside another model's files has nothing of that model's masks", function()
    local directory = temporary()
    local model = lc.load(GOLDEN .. "model")
    lc.prune.magnitude(model:linears(), { sparsity = 0.5 })
    model:save(directory)
    os.execute(("cp %smodel/epoch-3.pt %s/dense.pt"):format(GOLDEN, directory))
    assert.equal(0.5, lc.load(directory):linears():sparsity())
    assert.equal(0.0, lc.load(directory .. "/dense.pt"):linears():sparsity())
    os.execute(("cd %s && rm *.safetensors && mv dense.pt tokyo.pth"):format(directory))
    assert.equal(0.0, lc.load(directory):linears():sparsity())
    os.execute(("cd %s && rm config.json"):format(directory))
    assert.error_matches(function() return lc.load(directory) end,
      "a state dict says nothing of its model: put its config.json beside it")
    os.execute(("echo x > %s/tokyo.pth"):format(directory))
    assert.error_matches(function() return lc.io.open(directory .. "/tokyo.pth") end,
      "tokyo.pth: neither a zip archive nor a pickle, as torch.save writes them")
  end)

  it("shards are found by their index", function()
    for _, name in ipairs { "sharded", "sharded/pytorch_model.bin.index.json" } do
      local file = check_equal(name, "expected_linear.safetensors")
      assert.equal(2, #file)
    end
  end)

  it("code in a pickle is named, and does not run", function()
    os.remove "/tmp/lacuna-pickle-ran-code"
    local asked = {
      system = "posix.system", eval = "__builtin__.eval", getattr = "builtins.getattr",
      module = "torch.nn.modules.linear.Linear",
    }
    for name, global in pairs(asked) do
      local ok, message = pcall(lc.io.open, GOLDEN .. "hostile_" .. name .. ".pt")
      assert.is_false(ok)
      local text = "the pickle asks for " .. global .. "; lacuna builds tensors and plain values from pickles and runs"
      assert.is_truthy(tostring(message):find(text, 1, true), tostring(message))
    end
    assert.is_nil(io.open "/tmp/lacuna-pickle-ran-code")
  end)
end)

describe("GGUF", function()
  it("blocks of every type are what the gguf package makes of them", function()
    local file, count = check_equal("blocks.gguf", "expected_blocks.safetensors")
    assert.equal(16, count)
    assert.equal(16, #file)
    assert.equal("blocks", lc.io.metadata(file)["general.name"])
    assert.equal("llama", lc.io.metadata(file)["general.architecture"])
  end)

  it("metadata are strings, numbers and booleans", function()
    local got = lc.io.metadata(lc.io.open "tests/golden/gguf/gpt_neox_sequential.gguf")
    assert.equal("gptneox", got["general.architecture"])
    assert.equal("integer", math.type(got["gptneox.attention.head_count"]))
    assert.equal(3, got["gptneox.attention.head_count"])
    assert.equal("float", math.type(got["gptneox.attention.layer_norm_epsilon"]))
    assert.is_true(math.abs(got["gptneox.attention.layer_norm_epsilon"] - 0.01) < 1e-9)
    assert.is_false(got["gptneox.use_parallel_residual"])
  end)

  it("blocks are read with a cast", function()
    local file = lc.io.open(GOLDEN .. "blocks.gguf")
    local exact, cast = lc.io.read(file, "Q6_K"), lc.io.read(file, "Q6_K", "f64")
    assert.equal("f64", cast.dtype)
    assert.same(exact:flatten():totable(), cast:flatten():totable())
  end)

  it("a type that is not read is named", function()
    local file = lc.io.open(GOLDEN .. "blocks_iq.gguf")
    assert.same({ { name = "strange", dtype = "IQ4_XS", shape = { 1, 256 } } }, lc.io.info(file))
    assert.error_matches(function()
      return file.strange
    end, "tensor strange has dtype IQ4_XS, which lacuna does not read; it reads F64 F32 F16 BF16 I64 I32 Q8_0")
  end)
end)
