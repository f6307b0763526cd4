-- Tokenizers: against the `tokenizers` package's answers (tests/golden/text.lua, made by tests/golden/text.py), the
-- published counts of WikiText-2 where the shared data is present, training, saving, and messages.

local lc = require "lacuna"
local golden = dofile "tests/golden/text.lua"
local files = require "lacuna.core.files"
local temporary = dofile "tests/temporary.lua"

local shared = os.getenv "LACUNA_SHARED" or "../shared/data"

local function ids_of(tokenizer, text)
  local ids = tokenizer:encode(text)
  return ids.shape[1] == 0 and {} or ids:totable()
end

local function remove(directory) files.remove_tree(directory) end

describe("the tokenizers package agrees on", function()
  for name, cases in pairs(golden.shapes) do
    it(("the %d texts of tokenizer.json %q"):format(#cases, name), function()
      local tokenizer = lc.tokenizer("tests/golden/text/" .. name)
      for _, case in ipairs(cases) do
        local text, ids = case[1], case[2]
        assert.same(ids, ids_of(tokenizer, text), ("text %q"):format(text))
      end
    end)
  end

  it("vocab.json with merges.txt", function()
    local tokenizer = lc.tokenizer "tests/golden/text/pair"
    for _, case in ipairs(golden.shapes.plain) do
      assert.same(case[2], ids_of(tokenizer, case[1]), ("text %q"):format(case[1]))
    end
  end)

  it("the text of any ids, special tokens in or out", function()
    local tokenizer = lc.tokenizer "tests/golden/text/plain"
    for _, case in ipairs(golden.decoded) do
      assert.equal(case[2], tokenizer:decode(case[1]))
      assert.equal(case[3], tokenizer:decode(case[1], { skip_special = true }))
    end
  end)

  it("the merges that training learns", function()
    for _, case in ipairs { { golden.text, 400, 2, golden.merges },
                            { "ab ab abc abcd aab aaab baba abab", 300, 1, golden.every_merge } } do
      local directory = temporary(".tokenizer")
      lc.tokenizer.train { text = case[1], vocab_size = case[2], min_frequency = case[3] }:save(directory)
      local merges = {}
      for line in io.lines(directory .. "/merges.txt") do merges[#merges + 1] = line end
      remove(directory)
      assert.equal("#version: 0.2", table.remove(merges, 1))
      assert.same(case[4], merges)
    end
  end)
end)

describe("GPT-2's tokenizer", function()
  local directory = shared .. "/tokenizers/gpt2"
  local wiki = files.read(shared .. "/wikitext-2-raw/wiki.test.raw")
  local present = wiki and files.read(directory .. "/vocab.json")
  local reason = "the shared data is not at " .. shared .. " (LACUNA_SHARED)"

  it("makes 286,221 tokens of WikiText-2's test text, and 287,644 of its joined rows", function()
    if not present then return pending(reason) end
    local tokenizer = lc.tokenizer(directory)
    assert.equal(286221, tokenizer:encode(wiki).shape[1])
    assert.equal(wiki, tokenizer:decode(tokenizer:encode(wiki)))
    local file = shared .. "/wikitext-2-raw/wiki.test.raw"
    local ds = lc.dataset { tokenizer = tokenizer, file = file, length = 1024, join = "rows", cache = false }
    assert.equal(287644, ds:tokens().shape[1])
    assert.equal(280, #ds)
  end)

  it("gives the published ids of 47 awkward texts", function()
    local vectors = shared .. "/tokenizers/vectors/ggml-vocab-gpt-2.gguf"
    local inputs, outputs = files.read(vectors .. ".inp"), files.read(vectors .. ".out")
    if not (present and inputs and outputs) then return pending(reason) end
    local tokenizer, count = lc.tokenizer(directory), 0
    local expected = (outputs .. "\n"):gmatch "([^\n]*)\n"
    for text in (inputs .. "\n__ggml_vocab_test__\n"):gmatch "(.-)\n__ggml_vocab_test__\n" do
      local wanted = {}
      for id in expected():gmatch "%d+" do wanted[#wanted + 1] = math.tointeger(tonumber(id)) end
      assert.same(wanted, ids_of(tokenizer, text), ("text %q"):format(text))
      count = count + 1
    end
    assert.equal(47, count)
  end)

  it("has OPT's order of ids, and its </s> in front where the configuration says so", function()
    local opt = shared .. "/tokenizers/opt"
    if not files.read(opt .. "/vocab.json") then return pending(reason) end
    local plain = lc.tokenizer(opt)
    assert.same({ 31414, 6, 127, 2335, 16, 11962 }, ids_of(plain, "Hello, my dog is cute"))
    local copy = temporary(".opt")
    files.make_dirs(copy)
    for _, name in ipairs { "vocab.json", "merges.txt" } do
      local file = assert(io.open(copy .. "/" .. name, "wb"))
      file:write(files.read(opt .. "/" .. name))
      file:close()
    end
    local file = assert(io.open(copy .. "/tokenizer_config.json", "wb"))
    file:write [[{"add_bos_token": true, "bos_token": {"content": "</s>"}, "eos_token": "</s>",
                  "model_max_length": 1000000000000000019884624838656}]]
    file:close()
    local tokenizer = lc.tokenizer(copy)
    remove(copy)
    assert.same({ 2, 31414, 6, 127, 2335, 16, 11962 }, ids_of(tokenizer, "Hello, my dog is cute"))
    assert.same({ 31414 }, tokenizer:encode("Hello", { bos = false }):totable())
    assert.equal(2, tokenizer.bos)
    assert.equal(2, tokenizer.eos)
  end)
end)

describe("a tokenizer", function()
  local tokenizer = lc.tokenizer.train { text = golden.text, vocab_size = 320 }

  it("is the same after saving and loading", function()
    local directory = temporary(".tokenizer")
    for _, each in ipairs { tokenizer, lc.tokenizer.bytes(), lc.tokenizer "tests/golden/text/added",
                            lc.tokenizer "tests/golden/text/opt", lc.tokenizer "tests/golden/text/spaced" } do
      each:save(directory)
      local back = lc.tokenizer(directory)
      assert.equal(each:hash(), back:hash())
      assert.equal(each.eos, back.eos)
      assert.equal(each.bos, back.bos)
      remove(directory)
    end
  end)

  it("gives back every text of valid UTF-8", function()
    for _, case in ipairs(golden.shapes.plain) do
      if utf8.len(case[1]) then assert.equal(case[1], tokenizer:decode(tokenizer:encode(case[1]))) end
    end
  end)

  it("of bytes gives back any bytes", function()
    local bytes, all = lc.tokenizer.bytes(), {}
    for i = 0, 255 do all[#all + 1] = string.char(255 - i) end
    local text = table.concat(all)
    assert.equal(257, #bytes)
    assert.equal(text, bytes:decode(bytes:encode(text)))
    assert.same({ 104, 105, 256 }, ids_of(bytes, "hi<|endoftext|>"))
  end)

  it("knows its tokens", function()
    assert.equal(320, #tokenizer)
    assert.equal(0, tokenizer.eos)
    assert.is_nil(tokenizer.bos)
    assert.equal(0, tokenizer:id "<|endoftext|>")
    assert.equal("<|endoftext|>", tokenizer:token(0))
    assert.equal(" the", tokenizer:token(tokenizer:id " the"))
    assert.is_nil(tokenizer:id "no such token")
    assert.is_nil(tokenizer:token(320))
    assert.equal("tokenizer of 320 tokens", tostring(tokenizer))
  end)

  it("learns the same whenever it learns", function()
    assert.equal(tokenizer:hash(), lc.tokenizer.train({ text = golden.text, vocab_size = 320 }):hash())
    assert.are_not.equal(tokenizer:hash(), lc.tokenizer.train({ text = golden.text, vocab_size = 321 }):hash())
    local named = lc.tokenizer.train { text = golden.text, vocab_size = 300, specials = { "<end>", "<pad>" } }
    assert.equal(1, named:id "<pad>")
    assert.same({ 0 }, ids_of(named, "<end>"))
  end)

  local function refuses(pattern, fn, ...)
    local ok, problem = pcall(fn, ...)
    assert.is_false(ok)
    assert.matches(pattern, problem)
  end

  it("says what is wrong", function()
    refuses("tokenizer.train: unknown option 'vocab_sise' %(did you mean 'vocab_size'%?%)",
      lc.tokenizer.train, { text = "a", vocab_sise = 300 })
    refuses("give one of source, file and text, not 0 of them", lc.tokenizer.train, { vocab_size = 300 })
    refuses("tokenizer.train: the text is empty", lc.tokenizer.train, { text = "", vocab_size = 300 })
    refuses("vocab_size is 256; the bytes and special tokens are 257 already",
      lc.tokenizer.train, { text = "a", vocab_size = 256 })
    refuses("no token has the id 320 %(number 2 in the list%)", tokenizer.decode, tokenizer, { 5, 320 })
    refuses("/no/such: no such file or directory", lc.tokenizer, "/no/such")
    refuses("no tokenizer.json, and no vocab.json with merges.txt", lc.tokenizer, "tests/golden")
    refuses("expected a string, got 5", tokenizer.encode, tokenizer, 5)
    refuses("a tokenizer has no 'eod' %(did you mean 'eos'%?%)", function() return tokenizer.eod end)
  end)
end)
