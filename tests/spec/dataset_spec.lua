-- Datasets: windows, documents, padding, order, splits, samples, sources, the token cache, messages.

local lc = require "lacuna"
local files = require "lacuna.core.files"
local temporary = dofile "tests/temporary.lua"

local bytes = lc.tokenizer.bytes()
local alphabet = "abcdefghijklmnopqrstuvwxyz"

local function dataset(options)
  options.tokenizer = options.tokenizer or bytes
  return lc.dataset(options)
end

local function text_of(ids) return bytes:decode(ids) end

local function refuses(pattern, fn, ...)
  local ok, problem = pcall(fn, ...)
  assert.is_false(ok)
  assert.matches(pattern, problem)
end

local directory
setup(function()
  directory = temporary(".dataset")
  files.make_dirs(directory .. "/tiny")
end)
teardown(function() files.remove_tree(directory) end)

local function write(name, text)
  local path = directory .. "/" .. name
  files.write(path, text)
  return path
end

describe("windows", function()
  it("follow each other, and the tail is dropped", function()
    local ds = dataset { text = alphabet, length = 8 }
    assert.equal(3, #ds)
    assert.equal("abcdefgh", text_of(ds[1].ids))
    assert.equal("qrstuvwx", text_of(ds[-1].ids))
    assert.same({ 1, 8 }, ds[1].ids.shape)
    assert.is_true(ds[2].labels:eq(ds[2].ids):all():item())
    assert.equal(8, ds[2].attention_mask:sum():item())
  end)

  it("begin every stride tokens", function()
    local ds = dataset { text = alphabet, length = 8, stride = 3 }
    assert.equal(7, #ds)
    assert.equal("defghijk", text_of(ds[2].ids))
    assert.equal(8, ds.length)
    assert.equal(3, ds.stride)
  end)

  it("take their length and tokenizer from a model", function()
    local model = { tokenizer = bytes, positions = 5 }
    assert.equal(5, lc.dataset({ model = model, text = alphabet }).length)
    assert.equal(2048, lc.dataset({ model = { tokenizer = bytes, positions = 9999 }, text = ("x"):rep(3000) }).length)
    assert.equal(bytes:hash(), lc.dataset({ model = model, text = alphabet }).tokenizer:hash())
  end)

  it("begin once with the token that the tokenizer puts before texts", function()
    local opt = lc.tokenizer "tests/golden/text/opt"
    local ids = dataset({ tokenizer = opt, text = "the river", length = 1 }):tokens():totable()
    assert.same(opt:encode("the river"):totable(), ids)
    assert.equal(opt.bos, ids[1])
  end)

  it("of a .jsonl have an end of text between documents", function()
    local path = write("docs.jsonl", '{"text": "one"}\n{"text": "two"}\n')
    assert.equal("one<|endoftext|>two", text_of(dataset({ file = path, length = 3 }):tokens()))
  end)
end)

describe("documents", function()
  it("are cut at length, padded to the longest of the batch, and pads have no label", function()
    local ds = dataset { text = "ab\n\ncdefgh\nx", length = 4, per = "document" }
    assert.equal(3, #ds)
    for batch in ds:batches { batch = 3, shuffle = false } do
      assert.same({ { 97, 98, 256, 256 }, { 99, 100, 101, 102 }, { 120, 256, 256, 256 } }, batch.ids:totable())
      assert.same({ { 97, 98, -100, -100 }, { 99, 100, 101, 102 }, { 120, -100, -100, -100 } }, batch.labels:totable())
      assert.same({ { 1, 1, 0, 0 }, { 1, 1, 1, 1 }, { 1, 0, 0, 0 } }, batch.attention_mask:totable())
    end
    assert.same({ 1, 2 }, ds[1].ids.shape)
  end)

  it("change nothing in the loss by their padding", function()
    local model = lc.model {
      family = "gpt2", vocab_size = 257, n_positions = 16, n_embd = 12, n_layer = 1, n_head = 2, seed = 1,
    }
    local ds = dataset { text = "abcd\nefghijklmn", length = 16, per = "document" }
    local total, labels = 0, 0
    for i = 1, #ds do
      local n = ds[i].ids.shape[2] - 1
      total, labels = total + n * model:loss(ds[i]):item(), labels + n
    end
    for batch in ds:batches { batch = 2 } do
      assert.near(total / labels, model:loss(batch):item(), 1e-5)
    end
  end)
end)

describe("batches", function()
  local ds = dataset { text = alphabet:rep(4), length = 4, seed = 3 }

  local function order(options)
    local list = {}
    for batch in ds:batches(options) do
      for row = 1, batch.ids.shape[1] do list[#list + 1] = text_of(batch.ids[row]) end
    end
    return list
  end

  it("give each example once, in an order of (seed, epoch)", function()
    local first, again, second = order { batch = 5 }, order { batch = 5 }, order { batch = 5, epoch = 2 }
    assert.equal(#ds, #first)
    assert.same(first, again)
    assert.are_not.same(first, second)
    assert.are_not.same(first, order { batch = 5, seed = 4 })
    assert.same(first, order { batch = 7 })
    local function sorted(list)
      table.sort(list)
      return list
    end
    assert.same(sorted(first), sorted(order { batch = 5, shuffle = false }))
  end)

  it("end with a smaller one", function()
    local sizes = {}
    for batch in ds:batches { batch = 10 } do sizes[#sizes + 1] = batch.ids.shape[1] end
    assert.same({ 10, 10, 6 }, sizes)
  end)
end)

describe("parts", function()
  local ds = dataset { text = alphabet, length = 4, stride = 1 }

  it("of a split share no token", function()
    local first, rest = ds:split(0.6)
    assert.equal("abcdefghijklmno", text_of(first:tokens()))
    assert.equal("pqrstuvwxyz", text_of(rest:tokens()))
    assert.equal(12, #first)
    assert.equal(8, #rest)
    local documents = dataset { text = "a\nb\nc\nd\ne", length = 4, per = "document" }
    local a, b = documents:split(0.8)
    assert.equal("abcd", text_of(a:tokens()))
    assert.equal("e", text_of(b:tokens()))
  end)

  it("of a sample are windows of the text, the same for the same seed", function()
    local sample = ds:sample(20, { seed = 5 })
    assert.equal(20, #sample)
    for i = 1, 20 do assert.is_truthy(alphabet:find(text_of(sample[i].ids), 1, true)) end
    assert.equal(sample:hash(), ds:sample(20, { seed = 5 }):hash())
    assert.are_not.equal(sample:hash(), ds:sample(20, { seed = 6 }):hash())
    local documents = dataset { text = "a\nb\nc", length = 4, per = "document" }
    local letters = text_of(documents:sample(3, { seed = 1 }):tokens())
    assert.same({ true, true, true }, { letters:find "a" ~= nil, letters:find "b" ~= nil, letters:find "c" ~= nil })
  end)
end)

describe("sources", function()
  it("join WikiText's rows as the published perplexities do", function()
    local joined = "\n\n = Title = \n\n\n\n\n A line .\n"
    local text = dataset { text = " \n = Title = \n \n A line .\n", length = 4, join = "rows" }
    assert.equal(joined, text_of(text:tokens()))
    local rows = { '{"text": ""}', '{"text": " = Title = \\n"}', '{"text": ""}', '{"text": " A line .\\n"}' }
    local file = dataset { file = write("rows.jsonl", table.concat(rows, "\n")), length = 4, join = "rows" }
    assert.equal(joined, text_of(file:tokens()))
  end)

  it("read .gz", function()
    local path = write("tiny/packed.txt", alphabet)
    os.execute("gzip -f " .. path)
    assert.equal(alphabet, text_of(dataset({ file = path .. ".gz", length = 4 }):tokens()))
  end)

  it("that are missing say which file to put where", function()
    refuses('no text for "none/test": put it into .*none/test.txt %(or .jsonl, .txt.gz, .jsonl.gz%)',
      dataset, { source = "none/test", length = 4 })
    refuses('leave the ending off, as in source = "none/test"; a path is given by file',
      dataset, { source = "none/test.jsonl.gz", length = 4 })
    refuses("no/such.txt", dataset, { file = "no/such.txt", length = 4 })
  end)

  it("that are bad say where", function()
    refuses("bad.jsonl: line 2: column 1: not JSON", dataset,
      { file = write("bad.jsonl", '{"text": "a"}\n{'), length = 1 })
    refuses("line 1: column %d+: not JSON: a NUL character %(\\u0000%) inside a string", dataset,
      { file = write("bad.jsonl", '{"text": "a\\u0000b"}\n'), length = 1 })
    refuses('line 1: "text" is missing', dataset, { file = write("bad.jsonl", "{}\n"), length = 1 })
    refuses("the text is empty", dataset, { text = "", length = 4 })
    refuses("the text is empty", dataset, { file = write("empty.txt", ""), length = 4 })
    refuses("the text is empty", dataset, { text = " \n \n", length = 4, per = "document" })
  end)
end)

describe("a dataset", function()
  it("is the same with the cache, without it, and with a damaged one", function()
    local text = {}
    for i = 1, 4000 do text[i] = ("line %d of a text that is long enough to be kept\n"):format(i) end
    local path = write("long.txt", table.concat(text))
    local tokenizer = lc.tokenizer.train { file = path, vocab_size = 300 }
    local plain = dataset({ tokenizer = tokenizer, file = path, length = 64, cache = false }):hash()
    for _ = 1, 2 do
      assert.equal(plain, dataset({ tokenizer = tokenizer, file = path, length = 64 }):hash())
    end
  end)

  it("says what is wrong", function()
    refuses("unknown option 'lenght' %(did you mean 'length'%?%)", dataset, { text = "a", lenght = 4 })
    refuses("give a model or a tokenizer", lc.dataset, { text = "abc", length = 2 })
    refuses("the model has no tokenizer", lc.dataset, { model = { positions = 4 }, text = "abc" })
    refuses("option 'length' is needed", dataset, { text = "abc" })
    local model = { positions = 4, tokenizer = lc.tokenizer.bytes() }
    refuses("dataset: length = 5 is more than the model's 4 positions", lc.dataset,
      { model = model, text = alphabet, length = 5 })
    assert.equal(4, lc.dataset({ model = model, text = alphabet, length = 4 }).length)
    assert.equal(2, #lc.dataset { model = model, text = "ab\nc", length = 64, per = "document" }) -- it only cuts
    model.positions = math.huge
    assert.equal(5, lc.dataset({ model = model, text = alphabet, length = 5 }).length)
    refuses("give one of source, file and text, not 2 of them", dataset, { text = "a", file = "b", length = 1 })
    refuses("the text has 3 tokens, fewer than one window of length = 4", dataset, { text = "abc", length = 4 })
    refuses("stride is between windows", dataset, { text = "a", length = 1, per = "document", stride = 1 })
    refuses('join = "rows" makes one text', dataset, { text = "a", length = 1, per = "document", join = "rows" })
    local ds = dataset { text = alphabet, length = 4 }
    refuses("index 7 is outside 1..6", function() return ds[7] end)
    refuses("the share is 1.5; between 0 and 1", ds.split, ds, 1.5)
    refuses("second part: the text has 3 tokens, fewer", ds.split, ds, 0.9)
    refuses("0 examples were asked for; at least 1", ds.sample, ds, 0)
    refuses("option 'batch' must be from 1", ds.batches, ds, { batch = 0 })
    refuses("option 'epoch' counts from 1, got 0", ds.batches, ds, { epoch = 0 })
    refuses("option 'epoch' counts from 1, got %-9", ds.batches, ds, { epoch = math.mininteger })
  end)

  it("prints itself", function()
    assert.equal("dataset of 6 examples, at most 4 tokens each, from 26 tokens",
      tostring(dataset { text = alphabet, length = 4 }))
  end)
end)
