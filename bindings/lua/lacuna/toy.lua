--- What --toy puts in place of the real things: a tiny fresh model, and a text made up on the spot, so that any recipe
-- runs in seconds and needs no file. lc.load, lc.dataset and lc.tokenizer come from here under --toy.
-- Text that the recipe itself holds (text = "...") stays.

warn "@off" -- one text stands in for all: that it both calibrates and is scored is no news

local dataset = require("lacuna.core.dataset").dataset
local model = require("lacuna.model").model
local tokenizer = require("lacuna.core.tokenizer").tokenizer

local toy = {}

local LENGTH, VOCABULARY, SENTENCES = 32, 300, 600

local subjects = {
  "the miller", "a shepherd", "the old king", "her brother", "the ferryman", "a stranger", "the baker",
}
local verbs = { "carried", "found", "sold", "kept", "counted", "hid", "forgot" }
local objects = { "seven lamps", "a grey horse", "the bread", "three letters", "an empty jar", "the key", "two apples" }
local places = { "by the river", "in the tower", "before dawn", "under the bridge", "at the market", "near the well" }

--- The same text every time: sentences whose words depend on each other, so that there is something to learn.
local function text()
  local lines, state = {}, 1
  local function draw(list)
    state = (state * 1103515245 + 12345) % 2147483648
    return list[state // 65536 % #list + 1]
  end
  for i = 1, SENTENCES do
    lines[i] = ("And %s %s %s %s."):format(draw(subjects), draw(verbs), draw(objects), draw(places))
  end
  return table.concat(lines, "\n") .. "\n"
end

local function with(options, changes)
  local copy = {}
  for name, value in pairs(options or {}) do copy[name] = value end
  copy.source, copy.file, copy.text = nil, nil, copy.text or text()
  for name, value in pairs(changes) do copy[name] = value end
  return copy
end

--- A tiny GPT-2 over bytes, whatever the name.
function toy.load()
  return model {
    family = "gpt2", tokenizer = tokenizer.bytes(), n_positions = 2 * LENGTH, n_embd = 32, n_layer = 2, n_head = 2,
  }
end

function toy.dataset(options)
  local length = options and options.length
  return dataset(with(options, { length = math.min(length or LENGTH, LENGTH) }))
end

toy.tokenizer = setmetatable({
  bytes = tokenizer.bytes,
  train = function(options)
    local size = math.min(options and options.vocab_size or VOCABULARY, VOCABULARY)
    return tokenizer.train(with(options, { vocab_size = size }))
  end,
}, { __call = tokenizer.bytes })

return toy
