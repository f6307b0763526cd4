--- Lacuna's side of gpt2.py and families.py.
--
--   lacuna models.lua compare DIR...      each: model and inputs.safetensors -> out_f32, out_f64.safetensors, saved/
--   lacuna models.lua fresh DIR           config.json (model_type and sizes) -> a fresh model, saved, and its logits
--   lacuna models.lua logits DIR FILE     logits of random ids

local lc = require "lacuna"
local json = require "lacuna.json"

--- The names before the dot in the file's tensors that end in ".ids".
local function input_sets(inputs)
  local names = {}
  for name in pairs(inputs) do
    names[#names + 1] = name:match "^(.*)%.ids$"
  end
  return names
end

--- Adds logits, loss and gradients on each set of inputs to `out`. The loss comes in two ways: alone, when logits are
-- never whole, and together with the logits; both must give the same.
local function add_passes(out, model, inputs)
  for _, set in ipairs(input_sets(inputs)) do
    local batch = {
      ids = inputs[set .. ".ids"], labels = inputs[set .. ".labels"], attention_mask = inputs[set .. ".mask"],
    }
    local loss = model:loss(batch)
    loss:backward()
    out[set .. ".loss"] = loss:detach()
    for name, p in pairs(model:parameters()) do
      out[set .. ".grad." .. name] = p.grad
      p.grad = nil
    end
    local whole, logits = model:loss(batch, { logits = true })
    out[set .. ".logits"] = logits:detach()
    local difference = math.abs(whole:item() - loss:item())
    assert(difference <= 1e-5 * math.abs(loss:item()), set .. ": the loss with logits differs")
  end
end

local function add_generated(out, model, inputs)
  local number = 1
  while inputs["prompt." .. number] do
    local ids = model:generate(inputs["prompt." .. number], { tokens = 10, stop = false })
    out["generated." .. number] = lc.tensor(ids, { dtype = "i64" })
    number = number + 1
  end
end

local function compare(directory)
  local inputs = lc.io.open(directory .. "/inputs.safetensors")
  for _, dtype in ipairs { "f32", "f64" } do
    local model, out = lc.load(directory, { dtype = dtype }), {}
    add_passes(out, model, inputs)
    add_generated(out, model, inputs)
    lc.io.save(directory .. "/out_" .. dtype .. ".safetensors", out)
    if dtype == "f32" then model:save(directory .. "/saved") end
  end
end

local function with_logits(model, ids)
  return { ids = ids, logits = lc.no_grad(model.logits, model, ids) }
end

--- The model, made by lc.model, and logits of two texts.
local function fresh(directory)
  local options
  do
    local file <close> = assert(io.open(directory .. "/config.json"))
    options = json.decode(file:read "a", "config.json")
  end
  options.family, options.model_type, options.seed = options.model_type, nil, 3
  local model = lc.model(options)
  model:save(directory)
  lc.io.save(directory .. "/out.safetensors", with_logits(model, lc.randint(0, options.vocab_size, { 2, 9 })))
end

local function logits(directory, file)
  local model = lc.load(directory)
  local embedding = model:parameters "embedding"[1]
  lc.io.save(file, with_logits(model, lc.randint(0, embedding.shape[1], { 2, 16 })))
end

local command = arg[1]
if command == "compare" then
  for i = 2, #arg do compare(arg[i]) end
elseif command == "fresh" then
  fresh(arg[2])
else
  logits(arg[2], arg[3])
end
