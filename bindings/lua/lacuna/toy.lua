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

local gpt2 = { family = "gpt2", n_positions = 2 * LENGTH, n_embd = 32, n_layer = 2, n_head = 2 }

--- A family whose configuration calls sizes as most do.
local function decoder(family, more)
  local config = {
    family = family, max_position_embeddings = 2 * LENGTH, hidden_size = 32, num_hidden_layers = 2,
    num_attention_heads = 2,
  }
  for name, value in pairs(more) do config[name] = value end
  return config
end

local llama = decoder("llama", { intermediate_size = 80, num_key_value_heads = 1 })
local qwen2 = decoder("qwen2", { intermediate_size = 80, num_key_value_heads = 1 })
local neox = decoder("gpt_neox", { intermediate_size = 128 })
local opt = decoder("opt", { ffn_dim = 128 })

-- What a model's name holds, in lower case, when it is of that family.
local families = {
  { "%f[%a]opt%f[%A]", opt }, { "pythia", neox }, { "neox", neox }, { "qwen", qwen2 }, { "llama", llama },
  { "smollm", llama }, { "stories", llama },
}

--- A tiny fresh model over bytes, of the family that the name speaks of: "facebook/opt-125m" is an OPT,
-- "EleutherAI/pythia-70m" a GPT-NeoX, "Qwen/Qwen2.5-0.5B" a Qwen2, "HuggingFaceTB/SmolLM2-135M" a Llama, and any other
-- name a GPT-2.
function toy.load(name)
  local config = { tokenizer = tokenizer.bytes() }
  local family = gpt2
  for _, row in ipairs(families) do
    if tostring(name):lower():find(row[1]) then
      family = row[2]
      break
    end
  end
  for key, value in pairs(family) do config[key] = value end
  return model(config)
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
