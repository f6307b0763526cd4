--- Tiny models and batches for specs: odd sizes, a fixed seed, milliseconds a step.

local lc = require "lacuna"

local tiny = {}

--- A GPT-2 of about 7,000 weights.
---@param config table|nil more keys of its config.json, and seed
function tiny.gpt2(config)
  local all = {
    family = "gpt2", seed = 7, vocab_size = 53, n_positions = 17, n_embd = 15, n_layer = 2, n_head = 3,
    resid_pdrop = 0, embd_pdrop = 0, attn_pdrop = 0,
  }
  for key, value in pairs(config or {}) do all[key] = value end
  return lc.model(all)
end

local decoder = {
  vocab_size = 53, hidden_size = 18, num_hidden_layers = 2, num_attention_heads = 3, max_position_embeddings = 17,
  seed = 7,
}
local particular = {
  llama = { intermediate_size = 23, num_key_value_heads = 1, head_dim = 8 },
  qwen2 = { intermediate_size = 23, num_key_value_heads = 1 },
  gpt_neox = { intermediate_size = 23, rotary_pct = 0.7 },
  opt = { ffn_dim = 23, word_embed_proj_dim = 10, do_layer_norm_before = false, dropout = 0 },
}

--- A decoder of one of the families "llama", "qwen2", "gpt_neox" and "opt", of about 5,000 weights.
---@param config table|nil more keys of its config.json, and seed
function tiny.decoder(family, config)
  local all = { family = family }
  for _, keys in ipairs { decoder, particular[family], config or {} } do
    for key, value in pairs(keys) do all[key] = value end
  end
  return lc.model(all)
end

--- Batches {ids, labels} of rows x length tokens, different for each seed; labels leave out a few tokens, not the same
-- number in each batch.
function tiny.batches(n, rows, length, seed)
  local list = {}
  local state = seed or 1
  local function random(limit)
    state = (state * 1103515245 + 12345) % 2147483648
    return state // 65536 % limit
  end
  for i = 1, n do
    local ids, labels = {}, {}
    for r = 1, rows do
      ids[r], labels[r] = {}, {}
      for c = 1, length do
        ids[r][c] = random(53)
        labels[r][c] = c <= random(4) + i % 2 and -100 or ids[r][c]
      end
    end
    list[i] = { ids = ids, labels = labels }
  end
  return list
end

--- All weights, as one list of numbers by name.
function tiny.weights(model)
  local all = {}
  for name, p in pairs(model:parameters()) do all[name] = p:detach():flatten():totable() end
  return all
end

--- The largest |a - b| over max|b| of two results of tiny.weights.
function tiny.difference(a, b)
  local worst = 0
  for name, values in pairs(b) do
    local scale, gap = 0, 0
    for i, value in ipairs(values) do
      scale = math.max(scale, math.abs(value))
      gap = math.max(gap, math.abs(a[name][i] - value))
    end
    worst = math.max(worst, scale > 0 and gap / scale or gap)
  end
  return worst
end

--- Joins batches of equal length row by row into one.
function tiny.join(list)
  local joined = { ids = {}, labels = {} }
  for _, batch in ipairs(list) do
    for r = 1, #batch.ids do
      joined.ids[#joined.ids + 1], joined.labels[#joined.labels + 1] = batch.ids[r], batch.labels[r]
    end
  end
  return joined
end

return tiny
