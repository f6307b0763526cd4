--- Lacuna's side of perplexity.py.
--
--   lacuna perplexity.lua DIR     model, cases.json and ids.safetensors -> out_32, out_64.safetensors:
--                                 results (cases, 3): perplexity, tokens scored, windows

local lc = require "lacuna"
local json = require "lacuna.json"

local directory = arg[1]
local file <close> = assert(io.open(directory .. "/cases.json"))
local cases = json.decode(file:read "a", "cases.json")
local ids = lc.io.open(directory .. "/ids.safetensors").ids

for _, dtype in ipairs { "f32", "f64" } do
  local model, results = lc.load(directory, { dtype = dtype }), {}
  for _, case in ipairs(cases) do
    local options = { protocol = case.protocol, window = case.window, stride = case.stride }
    local value, details = model:perplexity(ids { { 1, case.tokens } }, options)
    results[#results + 1] = { value, details.tokens, details.windows }
  end
  local path = ("%s/out_%s.safetensors"):format(directory, dtype:sub(2))
  lc.io.save(path, { results = lc.tensor(results, { dtype = "f64" }) })
end
