-- tokenizer.json in the styles of today's models, against the answers of the `tokenizers` package
-- (tests/golden/tokenizer_json, made by tests/golden/tokenizer_json.py); saving word for word; messages that name
-- what is not known.

local lc = require "lacuna"
local files = require "lacuna.core.files"
local json = require "lacuna.json"
local temporary = dofile "tests/temporary.lua"

local GOLDEN = "tests/golden/tokenizer_json/"

--- A directory with the given files, name -> text.
local function directory_with(contents)
  local directory = temporary(".tokenizer")
  files.make_dirs(directory)
  for name, text in pairs(contents) do
    local file = assert(io.open(directory .. "/" .. name, "wb"))
    file:write(text)
    file:close()
  end
  return directory
end

local function ids_of(tokenizer, text, options)
  local ids = tokenizer:encode(text, options)
  return ids.shape[1] == 0 and {} or ids:totable()
end

describe("the tokenizers package agrees on", function()
  for _, name in ipairs(files.list(GOLDEN)) do
    local cases = dofile(GOLDEN .. name .. "/cases.lua")
    it(("%d texts, encoded and decoded, of a tokenizer in the style %s"):format(#cases, name), function()
      local tokenizer = lc.tokenizer(GOLDEN .. name)
      for _, case in ipairs(cases) do
        local text, ids, decoded = case[1], case[2], case[3] or case[1]
        assert.same(ids, ids_of(tokenizer, text), ("text %q"):format(text))
        if #ids > 0 then assert.equal(decoded, tokenizer:decode(ids), ("text %q"):format(text)) end
      end
    end)
  end
end)

describe("a loaded tokenizer.json", function()
  it("is saved word for word, with its configuration", function()
    local config = '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "extra": [1, 2.50]}\n'
    local template = "{{ messages }}\n"
    local source = files.read(GOLDEN .. "llama3/tokenizer.json")
    local from = directory_with { ["tokenizer.json"] = source, ["tokenizer_config.json"] = config,
                                  ["chat_template.jinja"] = template }
    local tokenizer = lc.tokenizer(from)
    files.remove_tree(from)
    local to = temporary(".tokenizer")
    tokenizer:save(to)
    assert.equal(source, files.read(to .. "/tokenizer.json"))
    assert.equal(config, files.read(to .. "/tokenizer_config.json"))
    assert.equal(template, files.read(to .. "/chat_template.jinja"))
    local back = lc.tokenizer(to)
    files.remove_tree(to)
    assert.equal(tokenizer:hash(), back:hash())
    assert.equal(tokenizer:id "<|end|>", back.eos)
  end)

  it("without a configuration gets one that says how texts begin and end", function()
    local to = temporary(".tokenizer")
    lc.tokenizer(GOLDEN .. "llama2"):save(to)
    local config = json.decode(files.read(to .. "/tokenizer_config.json"), "config")
    files.remove_tree(to)
    assert.equal("PreTrainedTokenizerFast", config.tokenizer_class)
    assert.equal("<s>", config.bos_token)
    assert.equal("</s>", config.eos_token)
    assert.is_true(config.add_bos_token)
  end)

  it("begins texts as its configuration says, once", function()
    local source = files.read(GOLDEN .. "llama3/tokenizer.json")
    local begin = lc.tokenizer(GOLDEN .. "llama3"):id "<|begin|>"
    local function first_of(config)
      local directory = directory_with { ["tokenizer.json"] = source, ["tokenizer_config.json"] = config }
      local tokenizer = lc.tokenizer(directory)
      files.remove_tree(directory)
      local ids = ids_of(tokenizer, "the the")
      assert.are_not.equal(begin, ids[2])
      assert.are_not.equal(begin, ids_of(tokenizer, "the the", { bos = false })[1])
      local ds = lc.dataset { tokenizer = tokenizer, text = ("the river "):rep(20), length = 8, cache = false }
      local count = 0
      for _, id in ipairs(ds:tokens():totable()) do count = count + (id == begin and 1 or 0) end
      return ids[1] == begin, count
    end
    assert.same({ true, 1 }, { first_of '{"bos_token": "<|begin|>"}' })
    assert.same({ true, 1 }, { first_of '{"bos_token": {"content": "<|begin|>"}, "add_bos_token": true}' })
    assert.same({ false, 0 }, { first_of '{"bos_token": "<|begin|>", "add_bos_token": false}' })
  end)
end)

describe("what is not known in a tokenizer.json", function()
  local source = json.decode(files.read(GOLDEN .. "smollm/tokenizer.json"), "source")

  --- Expects that the tokenizer with `change` made to it is refused with that message.
  local function refuses(message, change, config)
    local parts = json.decode(json.encode(source, "source"), "copy")
    change(parts)
    local text = json.encode(parts, "parts")
    local directory = directory_with { ["tokenizer.json"] = text, ["tokenizer_config.json"] = config }
    local ok, problem = pcall(lc.tokenizer, directory)
    files.remove_tree(directory)
    assert.is_false(ok)
    assert.truthy(problem:find(message, 1, true), problem)
  end

  it("is named", function()
    refuses("tokenizer.json: model WordPiece is not supported", function(p) p.model.type = "WordPiece" end)
    refuses('model option "dropout" is not supported', function(p) p.model.dropout = 0.1 end)
    refuses("normalizer Lowercase is not supported; these are: NFC NFD NFKC NFKD Prepend Replace",
      function(p) p.normalizer = { type = "Lowercase" } end)
    refuses("pre_tokenizer Whitespace is not supported; these are: ByteLevel Split Digits Metaspace",
      function(p) p.pre_tokenizer.pretokenizers[1] = { type = "Whitespace" } end)
    refuses("pre_tokenizer: a step behind ByteLevel is not supported",
      function(p) p.pre_tokenizer.pretokenizers[1] = { type = "ByteLevel" } end)
    refuses("Split: behavior Sideways is not supported", function(p)
      p.pre_tokenizer.pretokenizers[1] = { type = "Split", pattern = { String = "x" }, behavior = "Sideways" }
    end)
    refuses("decoder of a byte-level tokenizer: WordPiece is not supported",
      function(p) p.decoder = { type = "WordPiece" } end)
    refuses("post_processor BertProcessing is not supported",
      function(p) p.post_processor = { type = "BertProcessing" } end)
    refuses("more than one token before the text, or any behind it", function(p)
      p.post_processor = { type = "TemplateProcessing",
        single = { { Sequence = { id = "A" } }, { SpecialToken = { id = "<|end|>" } } } }
    end)
    refuses('"add_eos_token": a token behind each text is not supported', function() end, '{"add_eos_token": true}')
  end)

  it("is named when it is in a pattern", function()
    local function pattern(message, text)
      refuses(message, function(p)
        p.pre_tokenizer.pretokenizers[1] = { type = "Split", pattern = { Regex = text }, behavior = "Isolated" }
      end)
    end
    pattern([[pattern: "\w+": this escape is not supported]], [[\w+]])
    pattern([[pattern: "\b": this escape is not supported]], [[a\b]])
    pattern([[pattern: "\1": this escape is not supported]], [[(a)\1]])
    pattern([[pattern: "\p{Cn}": this category is not supported]], [[\p{Cn}]])
    pattern([[pattern: "\p{Lu})": a property without case is not supported]], [[(?i:\p{Lu})]])
    pattern([[a negated property inside a class]], [=[[\P{L}]]=])
    pattern([[classes that intersect are not supported]], "[a-z&&[aeiou]]")
    pattern([[a negated class inside a class]], "[a[^b]]")
    pattern([[a POSIX bracket is not supported]], "[[:alpha:]]")
    pattern([[the class does not end]], "[a-")
    pattern([[the class is empty]], "[]")
    pattern([[no range ends here]], [=[[a-\s]]=])
    pattern([[this kind of group is not supported]], "(?x:a)")
    pattern([[a sign behind the count is not supported]], "a{1,3}+")
    pattern("pattern: missing closing parenthesis", "(a")
    pattern([[pattern: unknown property]], [[\p{Klingon}]])
  end)
end)
