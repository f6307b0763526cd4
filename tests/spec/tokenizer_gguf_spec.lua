-- Tokenizers of GGUF files, written here, and of llama2.c, whose ids are published.

local lc = require "lacuna"
local files = require "lacuna.core.files"
local temporary = dofile "tests/temporary.lua"

local shared = os.getenv "LACUNA_SHARED" or "../shared/data"

local function text_of(s) return ("<s8"):pack(s) end

--- A GGUF file of metadata alone: a list of {key, kind, value}; kinds: "string", "strings", "ints", "floats".
local function gguf(metadata)
  local out = { "GGUF", ("<I4I8I8"):pack(3, 0, #metadata) }
  for _, entry in ipairs(metadata) do
    local kind, value = entry[2], entry[3]
    out[#out + 1] = text_of(entry[1])
    if kind == "string" then
      out[#out + 1] = ("<I4"):pack(8) .. text_of(value)
    else
      local format = ({ strings = "<s8", ints = "<i4", floats = "<f" })[kind]
      out[#out + 1] = ("<I4I4I8"):pack(9, ({ strings = 8, ints = 5, floats = 6 })[kind], #value)
      for _, each in ipairs(value) do out[#out + 1] = format:pack(each) end
    end
  end
  local path = temporary(".gguf")
  local file = assert(io.open(path, "wb"))
  file:write(table.concat(out))
  file:close()
  return path
end

local function load(metadata)
  local path = gguf(metadata)
  local ok, result = pcall(lc.tokenizer, path)
  os.remove(path)
  return ok, result
end

local function bpe(pre)
  return {
    { "tokenizer.ggml.model", "string", "gpt2" }, { "tokenizer.ggml.pre", "string", pre },
    { "tokenizer.ggml.tokens", "strings", { "<|end|>", "a", "b", "Ġ", "1", "ab", "Ġab", "11" } },
    { "tokenizer.ggml.token_type", "ints", { 3, 1, 1, 1, 1, 1, 1, 1 } },
    { "tokenizer.ggml.merges", "strings", { "a b", "Ġ ab", "1 1" } },
  }
end

describe("a GGUF file's tokenizer", function()
  it("cuts as its pattern says, and is the same when saved", function()
    for pre, wanted in pairs { ["gpt-2"] = { 6, 7, 0 }, smollm = { 6, 4, 4, 0 }, ["llama-bpe"] = { 6, 7, 0 },
                               qwen2 = { 6, 4, 4, 0 } } do
      local ok, tokenizer = load(bpe(pre))
      assert.is_true(ok, tokenizer)
      assert.same(wanted, tokenizer:encode(" ab11<|end|>"):totable(), pre)
      assert.equal(" ab11<|end|>", tokenizer:decode(wanted))
      local directory = temporary(".tokenizer")
      tokenizer:save(directory)
      assert.equal(tokenizer:hash(), lc.tokenizer(directory):hash())
      files.remove_tree(directory)
    end
  end)

  it("merges by score where it is SentencePiece's", function()
    local ok, tokenizer = load {
      { "tokenizer.ggml.model", "string", "llama" },
      { "tokenizer.ggml.tokens", "strings", { "<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "▁a", "<0x0A>" } },
      { "tokenizer.ggml.token_type", "ints", { 2, 3, 3, 1, 1, 1, 1, 1, 6 } },
      { "tokenizer.ggml.scores", "floats", { 0, 0, 0, -9, -9, -9, -2, -1, 0 } },
    }
    assert.is_true(ok, tokenizer)
    assert.same({ 1, 7, 5, 3, 7, 8, 6 }, tokenizer:encode("ab  a\nab"):totable())
    assert.equal("ab  a\nab", tokenizer:decode { 7, 5, 3, 7, 8, 6 })
  end)

  it("names what it does not know", function()
    local function refuses(message, metadata)
      local ok, problem = load(metadata)
      assert.is_false(ok)
      assert.truthy(problem:find(message, 1, true), problem)
    end
    refuses('tokenizer.ggml.pre = "klingon" is not known; known are: gpt-2', bpe "klingon")
    refuses("the file has no tokenizer", { { "general.architecture", "string", "gpt2" } })
    local other = bpe "gpt-2"
    other[1][3] = "t5"
    refuses('tokenizer.ggml.model = "t5" is not known', other)
    other = bpe "gpt-2"
    table.remove(other, 2)
    refuses("tokenizer.ggml.pre is missing", other)
    other = bpe "gpt-2"
    other[3][3][3] = "a"
    refuses('the token "a" has two ids, 1 and 2', other)
  end)
end)

describe("llama2.c's tokenizer", function()
  it("gives the ids of the published tok512.bin", function()
    local path = shared .. "/models/stories260K/tok512.bin"
    local file = io.open(path, "rb")
    if not file then return pending("the shared data is not at " .. shared .. " (LACUNA_SHARED)") end
    file:close()
    local tokenizer = lc.tokenizer(path)
    assert.same({ 1, 403, 407, 261, 378 }, tokenizer:encode("Once upon a time"):totable())
    assert.equal("Once upon a time", tokenizer:decode { 403, 407, 261, 378 })
    assert.equal(512, #tokenizer)
  end)

  it("names a file that is none", function()
    local path = temporary(".bin")
    local file = assert(io.open(path, "wb"))
    file:write(("<i4fi4"):pack(5, 1, 100) .. "short")
    file:close()
    local ok, problem = pcall(lc.tokenizer, path)
    os.remove(path)
    assert.is_false(ok)
    assert.matches("not a tokenizer of llama2.c: token 0 ends past the end of the file", problem)
  end)

  it("names a token that is not UTF-8, also where others are made of it", function()
    local path = temporary(".bin")
    local file = assert(io.open(path, "wb"))
    local tokens = { "<unk>", "\n<s>\n", "\n</s>\n" }
    for byte = 0, 255 do tokens[#tokens + 1] = ("<0x%02X>"):format(byte) end
    for _, token in ipairs { "a", "\xff", "\xffa" } do tokens[#tokens + 1] = token end
    file:write(("<i4"):pack(8))
    for i, token in ipairs(tokens) do file:write(("<fs4"):pack(-i, token)) end
    file:close()
    assert.error_matches(function() return lc.tokenizer(path) end, "the token with the id 260 is not UTF%-8")
  end)
end)
