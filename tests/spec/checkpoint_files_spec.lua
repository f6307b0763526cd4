-- Checkpoint files beside safetensors, read bit for bit as PyTorch and the gguf package read them: tests/golden/checkpoints.

local lc = require "lacuna"
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

describe("GGUF", function()
  it("blocks of every type are what the gguf package makes of them", function()
    local file, count = check_equal("blocks.gguf", "expected_blocks.safetensors")
    assert.equal(16, count)
    assert.equal(16, #file)
    assert.equal("blocks", lc.io.metadata(file)["general.name"])
    assert.equal("llama", lc.io.metadata(file)["general.architecture"])
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
