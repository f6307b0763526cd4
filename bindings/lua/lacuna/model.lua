--- lc.model and lc.load: fresh models, with the names of their configuration checked, and stored ones; both in the
-- numbers that --dtype asks for where the call itself says nothing.

local core = require "lacuna.core.model"
local errors = require "lacuna.errors"
local common = require "lacuna.options"

local model = {}

-- Options of the call itself; everything else is the family's configuration.
local own = { family = true, seed = true, dtype = true, tokenizer = true }

local function check_names(options, keys)
  local known = table.move(keys, 1, #keys, 1, {})
  for name in pairs(own) do known[#known + 1] = name end
  errors.check_options("model", options, known)
end

--- A fresh model: lc.model { family = "gpt2", n_layer = 4, ..., seed = 1, tokenizer = tok }. Keys are those of the
-- family's config.json, defaults those of transformers. A tokenizer gives the vocabulary's size and the end-of-text
-- token where the configuration does not.
---@param options table
---@return userdata
function model.model(options)
  if type(options) ~= "table" then
    errors.fail("model: expected {family = ..., ...} for a fresh model, got %s%s", errors.kind(options),
      type(options) == "string" and "; lc.load reads a stored one" or "")
  end
  if type(options.family) ~= "string" then errors.fail "model: option 'family' is missing, as in family = 'gpt2'" end
  check_names(options, core.keys(options.family))
  local config = { model_type = options.family }
  for name, value in pairs(options) do
    if not own[name] then config[name] = value end
  end
  local tokenizer = options.tokenizer
  errors.expect("model", "option 'tokenizer'", tokenizer, "tokenizer", true)
  if tokenizer then
    config.vocab_size = config.vocab_size or #tokenizer
    if tokenizer.eos then
      config.bos_token_id = config.bos_token_id or tokenizer.eos
      config.eos_token_id = config.eos_token_id or tokenizer.eos
    end
  end
  return core.make(config, options.seed, options.dtype or common.value.dtype, tokenizer)
end

--- A stored model: see help(lc.load).
---@param name string a directory, or the name of a model in the hub's cache
---@param options table|nil {dtype, device}
---@return userdata
function model.load(name, options)
  local dtype = common.value.dtype
  local says = options ~= nil and (type(options) ~= "table" or options.dtype)
  if says or not dtype then return core.load(name, options) end
  local copy = { dtype = dtype }
  for key, value in pairs(options or {}) do copy[key] = value end
  return core.load(name, copy)
end

return model
