-- Models in the files of other programs: GGUF (tests/golden/gguf, made from the models of other goldens by
-- tests/golden/gguf_models.py) and llama2.c.

local cli = require "tests.cli"
local lc = require "lacuna"
local files = require "lacuna.core.files"
local temporary = dofile "tests/temporary.lua"
local GOLDEN = "tests/golden/"
local STORIES = "../shared/data/models/stories260K"

--- The largest difference between two tensors.
local function distance(a, b)
  return (a - b):abs():max():item()
end

--- A scratch directory that is gone after `fn`.
local function in_directory(fn)
  local directory = temporary()
  os.execute("mkdir " .. directory)
  local ok, message = pcall(fn, directory)
  os.execute("rm -r " .. directory)
  assert(ok, message)
end

local function write(path, data)
  local file = assert(io.open(path, "wb"))
  file:write(data)
  file:close()
end

local read = files.read

describe("a GGUF model", function()
  local ids = { { 1, 5, 7, 2, 9, 30, 41, 3, 8 } }
  for _, name in ipairs { "llama_plain", "llama_llama3", "llama_linear", "llama_yarn", "llama_yarn_mscale",
    "qwen2_plain", "gpt_neox_plain", "gpt2_plain" } do
    it("has the parameters and the logits of " .. name, function()
      local wanted, got = lc.load(GOLDEN .. name), lc.load(GOLDEN .. "gguf/" .. name .. ".gguf")
      for parameter, p in pairs(wanted:parameters()) do
        assert.same(p.shape, got:parameter(parameter).shape)
        assert.equal(0, distance(p, got:parameter(parameter)), parameter)
      end
      assert.is_true(distance(wanted:logits(ids), got:logits(ids)) < 1e-5)
    end)
  end

  -- Their activations are none that GGUF could name.
  for _, name in ipairs { "llama_biases", "gpt_neox_sequential" } do
    it("has the biases of " .. name .. " and no others", function()
      local wanted, got = lc.load(GOLDEN .. name), lc.load(GOLDEN .. "gguf/" .. name .. ".gguf")
      assert.equal(#wanted:parameters(), #got:parameters())
      for parameter, p in pairs(wanted:parameters()) do
        assert.equal(0, distance(p, got:parameter(parameter)), parameter)
      end
    end)
  end

  it("is found in a directory, and saved as a checkpoint of transformers", function()
    in_directory(function(directory)
      write(directory .. "/tiny.gguf", read(GOLDEN .. "gguf/llama_plain.gguf"))
      local model = lc.load(directory)
      write(directory .. "/config.json", "{}") -- repositories of GGUF files often have one
      assert.equal(0, distance(model:logits(ids), lc.load(directory):logits(ids)))
      model:save(directory .. "/saved")
      assert.equal(0, distance(model:logits(ids), lc.load(directory .. "/saved"):logits(ids)))
      write(directory .. "/other.gguf", "")
      local ok, message = pcall(lc.load, directory)
      assert.is_false(ok)
      local text = "has several files *.gguf: load one of them by its path"
      assert.is_truthy(tostring(message):find(text, 1, true), tostring(message))
    end)
  end)

  it("with a tokenizer of an unknown kind has none, and says so", function()
    in_directory(function(directory)
      local data, path = read(GOLDEN .. "gguf/llama_plain.gguf"), directory .. "/klingon.gguf"
      local function text(s) return ("<s8"):pack(s) end
      local function entry(key, value) return text(key) .. ("<I4"):pack(8) .. text(value) end
      for _, entries in ipairs {
        entry("tokenizer.ggml.model", "gpt2") .. entry("tokenizer.ggml.pre", "klingon"),
        entry("tokenizer.ggml.model", "none") .. entry("tokenizer.ggml.pre", "none"),
      } do
        local key = text "padding" .. ("<I4"):pack(8)
        -- so long that the tensors keep their alignment
        entries = entries .. key .. text(("x"):rep(32 - (#entries + #key + 8) % 32))
        local count = ("<I8"):unpack(data, 17)
        write(path, data:sub(1, 16) .. ("<I8"):pack(count + 3) .. entries .. data:sub(25))
        local result = cli.run(("-e 'print(lc.load(%q).tokenizer)'"):format(path))
        assert.equal("nil\n", result.out)
        assert.equal("lacuna: warning: " .. path .. ": its tokenizer is of a kind that lacuna does not know "
          .. "(lc.tokenizer of the file names it): the model has none; set model.tokenizer\n", result.err)
      end
    end)
  end)

  it("of an unknown architecture or with a part missing is refused in words", function()
    in_directory(function(directory)
      local data, path = read(GOLDEN .. "gguf/llama_plain.gguf"), directory .. "/bad.gguf"
      local function refuses(old, new, text)
        assert.equal(#old, #new)
        local at = data:find(old, 1, true)
        write(path, data:sub(1, at - 1) .. new .. data:sub(at + #old))
        local ok, message = pcall(lc.load, path)
        assert.is_false(ok)
        assert.is_truthy(tostring(message):find(text, 1, true), tostring(message))
      end
      refuses("llama", "mamba", "unknown architecture 'mamba'; lacuna reads llama, qwen2, gpt2 and gptneox from GGUF")
      refuses("llama.block_count", "llama.block_coun_", "metadata llama.block_count is missing")
      refuses("token_embd.weight", "token_embb.weight", "no matrix token_embd.weight")
      refuses("blk.0.attn_q.weight", "blk.0.attn_Q.weight",
        "the tensors do not fit this llama's configuration: 1 missing: model.layers.0.self_attn.q_proj.weight; "
        .. "1 unexpected: blk.0.attn_Q.weight")
    end)
  end)
end)

describe("llama2.c", function()
  --- A file of these sizes, floats counting up: width, inner, layers, heads, key-value heads, vocabulary, positions.
  local function file_of(sizes, floats)
    local parts = {}
    for i = 1, floats do
      parts[i] = string.pack("<f", math.sin(i))
    end
    return string.pack("<i4i4i4i4i4i4i4", table.unpack(sizes)) .. table.concat(parts)
  end
  local WIDTH, INNER, VOCABULARY, POSITIONS = 8, 6, 5, 7
  local ONE_LAYER = WIDTH + WIDTH * WIDTH * 2 + WIDTH * WIDTH / 2 * 2 + WIDTH + 3 * WIDTH * INNER
  local TIED = VOCABULARY * WIDTH + 2 * ONE_LAYER + WIDTH + POSITIONS * 2 * 2

  it("files are read, with a tied head or its own", function()
    in_directory(function(directory)
      local path = directory .. "/tiny.bin"
      write(path, file_of({ WIDTH, INNER, 2, 2, 1, VOCABULARY, POSITIONS }, TIED))
      local model = lc.load(path)
      assert.is_true(math.abs(model:parameter "model.embed_tokens.weight"[1][1]:item() - math.sin(1)) < 1e-6)
      -- Rows 1 and 2 of a head of q are columns that one rotation mixes: rows 1 and 3 in transformers.
      local q = model:parameter "model.layers.0.self_attn.q_proj.weight"
      local first = VOCABULARY * WIDTH + 2 * WIDTH
      assert.is_true(math.abs(q[1][1]:item() - math.sin(first + 1)) < 1e-6)
      assert.is_true(math.abs(q[3][1]:item() - math.sin(first + WIDTH + 1)) < 1e-6)
      assert.is_true(math.abs(q[2][1]:item() - math.sin(first + 2 * WIDTH + 1)) < 1e-6)
      assert.same({ 1, 4, VOCABULARY }, model:logits({ { 1, 2, 3, 4 } }).shape)
      write(path, file_of({ WIDTH, INNER, 2, 2, 1, -VOCABULARY, POSITIONS }, TIED + VOCABULARY * WIDTH))
      local head = lc.load(path):parameter "lm_head.weight"
      assert.is_true(math.abs(head[1][1]:item() - math.sin(TIED + 1)) < 1e-6)
    end)
  end)

  it("files of other sizes are refused in words", function()
    in_directory(function(directory)
      local path = directory .. "/bad.bin"
      local function refuses(data, text)
        write(path, data)
        local ok, message = pcall(lc.load, path)
        assert.is_false(ok)
        assert.is_truthy(tostring(message):find(text, 1, true), tostring(message))
      end
      local sizes = { WIDTH, INNER, 2, 2, 1, VOCABULARY, POSITIONS }
      refuses("abc", "too short for a file of llama2.c")
      refuses("24ka" .. ("<I4"):pack(2) .. ("\0"):rep(248), "version 2 of llama2.c's format; lacuna reads version 0")
      refuses(file_of(sizes, TIED - 1), "has 3144 bytes, where a file of llama2.c of these sizes has at least 3148")
      refuses(file_of(sizes, TIED + 2), "has 3156 bytes, where a file of llama2.c of these sizes has 3148")
      refuses(file_of({ 1 << 24, INNER, 2, 2, 1, VOCABULARY, POSITIONS }, TIED), "of these sizes has at least ")
      refuses(file_of({ WIDTH, INNER, 1 << 24, 2, 1, VOCABULARY, POSITIONS }, TIED), "too short for 16777216 layers")
      refuses(file_of({ WIDTH, 0, 2, 2, 1, VOCABULARY, POSITIONS }, TIED),
        "not a file of llama2.c: it would have the sizes 8 0 2 2 1 5 7")
      refuses(file_of({ WIDTH, INNER, 2, 3, 1, VOCABULARY, POSITIONS }, TIED),
        "not a file of llama2.c: width 8, 3 heads and 1 key-value heads")
    end)
  end)

  it("files come with the tokenizer beside them, unless it is another model's", function()
    in_directory(function(directory)
      local tokens = { ("<i4"):pack(7) }
      local function token(text) tokens[#tokens + 1] = ("<fi4"):pack(-#tokens, #text) .. text end
      for _, text in ipairs { "<unk>", "\n<s>\n", "\n</s>\n" } do token(text) end
      for byte = 0, 255 do token(("<0x%02X>"):format(byte)) end
      token " "
      write(directory .. "/tokenizer.bin", table.concat(tokens))
      local function load(vocabulary)
        local floats = TIED + (vocabulary - VOCABULARY) * WIDTH
        write(directory .. "/tiny.bin", file_of({ WIDTH, INNER, 2, 2, 1, vocabulary, POSITIONS }, floats))
        return lc.load(directory .. "/tiny.bin")
      end
      assert.equal(260, #load(260).tokenizer)
      assert.error_matches(function() load(261) end,
        "tokenizer.bin: has 260 tokens, and .*tiny.bin a vocabulary of 261: it belongs to another model")
      write(directory .. "/tok261.bin", table.concat(tokens) .. ("<fi4"):pack(-300, 1) .. "a")
      assert.equal(261, #load(261).tokenizer)
    end)
  end)

  it("stories260K has the perplexity of its C program on five stories", function()
    local file = io.open(STORIES .. "/stories260K.bin")
    if not file then
      return pending "../shared/data/models/stories260K is not here"
    end
    file:close()
    local model, sum, count = lc.load(STORIES), 0, 0
    for _, ids in ipairs(dofile(GOLDEN .. "stories260K.lua")) do
      sum = sum + (#ids - 1) * model:loss({ ids = { ids } }):item()
      count = count + #ids - 1
    end
    assert.equal("3.548", ("%.3f"):format(math.exp(sum / count)))
    assert.equal(512, #model.tokenizer)
  end)

  it("stories260K's tokenizer gives the ids that its C program gives for them, and continues a text", function()
    local file = io.open "../shared/data/tinystories/tinystories-v2-sample-cs336.txt"
    if not file or not io.open(STORIES .. "/tok512.bin") then
      return pending "../shared/data/tinystories and models/stories260K are not here"
    end
    local model, stories = lc.load(STORIES), {}
    for story in (file:read "a" .. "<|endoftext|>"):gmatch "(.-)<|endoftext|>" do
      story = story:match "^%s*(.-)%s*$"
      if story ~= "" then stories[#stories + 1] = model.tokenizer:encode(story):totable() end
    end
    file:close()
    assert.same(dofile(GOLDEN .. "stories260K.lua"), stories)
    assert.equal(" a small house", model:generate("The city was founded in", { tokens = 20 }):sub(1, 14))
  end)
end)
