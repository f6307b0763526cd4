-- Tokenizers: megabytes of text in a second of one thread, best of several; beside the work "bpe" of peer.py.

local lc = require "lacuna"

local shared = os.getenv "LACUNA_SHARED" or "../shared/data"

local function read_file(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "a"
  file:close()
  return text
end

--- Smallest time of `repeats` calls, in seconds of this process.
local function best(repeats, work)
  local least = math.huge
  for _ = 1, repeats do
    local start = os.clock()
    work()
    least = math.min(least, os.clock() - start)
  end
  return least
end

local function report(what, size, seconds)
  print(("%-44s %8.1f MB/s"):format(what, size / seconds / 1e6))
end

local directory, text = shared .. "/tokenizers/gpt2", read_file(shared .. "/wikitext-2-raw/wiki.test.raw")
if not (text and read_file(directory .. "/vocab.json")) then
  print("GPT-2's vocabulary and wiki.test.raw are not at " .. shared .. "; set LACUNA_SHARED")
  return
end
local loading = best(3, function() lc.tokenizer(directory) end)
print(("%-44s %8.1f ms"):format("load GPT-2's vocab.json and merges.txt", 1e3 * loading))
local tokenizer = lc.tokenizer(directory)
report("encode wiki.test.raw, no word seen before", #text, best(1, function() tokenizer:encode(text) end))
report("encode wiki.test.raw in one string", #text, best(5, function() tokenizer:encode(text) end))
report("encode it by line", #text, best(3, function()
  for line in text:gmatch "[^\n]*\n" do tokenizer:encode(line) end
end))
local ids = tokenizer:encode(text)
report("decode it", #text, best(3, function() tokenizer:decode(ids) end))
report("train 8,000 tokens on it", #text, best(2, function() lc.tokenizer.train { text = text, vocab_size = 8000 } end))
