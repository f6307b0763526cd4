--- Calls every function and method of the language with random wrong arguments: `lacuna tests/surface.lua SEED CALLS`, in an empty
-- directory of its own. Nothing may crash, hang, or say something that only its author understands. Each call is printed before
-- it is made; the status is 1 when a message was not for people.

local lc = require "lacuna"
local engine = require "lacuna.core.test"

local seed, calls = math.tointeger(arg[1]), math.tointeger(arg[2])
math.randomseed(seed)

-- -- things to call, and to pass --------------------------------------------------------------------------------------

local model = lc.model {
  family = "gpt2", seed = 7, vocab_size = 256, n_positions = 12, n_embd = 8, n_layer = 2, n_head = 2,
}
local text = ("a quick brown fox; "):rep(30)
require("lacuna.core.files").write("text.txt", text)
model:save "saved"

--- Fresh objects for each call, since a call may close, freeze or overwrite what it gets.
local makers = {
  tensor = function() return lc.tensor { { 1.5, -2 }, { 3, 4 } } end,
  vector = function() return lc.tensor { 1, 2, 3 } end,
  scalar = function() return lc.tensor(2.5) end,
  double = function() return lc.tensor({ 1.5, 2 }, { dtype = "f64" }) end,
  queries = function() return lc.zeros { 1, 2, 3, 4 } end,
  integers = function() return lc.tensor({ { 1, 2 }, { 3, 0 } }, { dtype = "i64" }) end,
  booleans = function() return lc.tensor({ true, false }, { dtype = "bool" }) end,
  bytes = function() return lc.tensor({ 1, 255 }, { dtype = "u8" }) end,
  half = function() return lc.tensor({ 1, 2 }, { dtype = "bf16" }) end,
  empty = function() return lc.zeros { 0, 3 } end,
  nan = function() return lc.tensor { { 0 / 0, 1 }, { math.huge, -math.huge } } end,
  leaf = function() return lc.param(lc.tensor { { 1, 2 }, { 3, 4 } }) end,
  recorded = function() return (lc.param(lc.tensor { { 1, 2 }, { 3, 4 } }) * 2):sum() end,
  freed = function()
    local t
    lc.scope(function() t = lc.zeros { 2, 2 } end)
    return t
  end,
  strided = function() return lc.tensor { { 1, 2, 3 }, { 4, 5, 6 } }:transpose(1, 2) end,
  model = function() return model:clone() end,
  layer = function() return model:clone():linears()[1] end,
  layers = function() return model:clone():linears() end,
  parameters = function() return model:clone():parameters() end,
  blocks = function() return model:clone():blocks() end,
  block = function() return model:clone():blocks()[1] end,
  snapshot = function() return model:snapshot() end,
  mask = function() return lc.prune.magnitude(model:clone():linears(), { sparsity = 0.5 }) end,
  handle = function() return model:clone():linears()[1]:transform(function(w) return w end) end,
  tokenizer = function() return lc.tokenizer.bytes() end,
  dataset = function() return lc.dataset { tokenizer = lc.tokenizer.bytes(), text = text, length = 8 } end,
  schedule = function() return lc.schedule { { 0, 0 }, { 1, 0.5 } } end,
  stream = function() return lc.stream "surface" end,
  optimizer = function() return lc.optim.adamw { params = model:clone():parameters(), lr = 0.1 } end,
  run = function() return lc.run { name = "surface", out = "runs" } end,
  step = function()
    local batch = { ids = { { 1, 2, 3 } } }
    for t in lc.steps(model:clone(), { batch }, { steps = 1 }) do return t end
  end,
  func = function()
    return lc.func { forward = function(_, x) return x * 1 end, backward = function(_, dy) return dy end }
  end,
  file = function()
    lc.io.save("some.safetensors", { a = lc.zeros { 2 } })
    return lc.io.open "some.safetensors"
  end,
}

local numbers = {
  0, 1, -1, 2, 3, 7, 0.5, -0.5, 1.5, 0 / 0, math.huge, -math.huge, math.maxinteger, math.mininteger, 2 ^ 31, 2 ^ 53, -2 ^ 63, 1e300,
  1e-300, 2 ^ 40,
}
local strings = {
  "", "a", "f32", "i64", "row", "mlp", "attention", "sparsity", "some.safetensors", "h.0.attn", "transformer.wte.weight", "\0", "\xff\xfe",
  "%s%n%d", ("x"):rep(300), "[", "*", "../..", "none/such", "text", "all", "2:4", "linear", "nil",
}
local keys = {
  "dim", "dtype", "sparsity", "pattern", "scope", "seed", "steps", "batch", "params", "lr", "ids", "labels", "tokens", "text", "length",
  "stride", "device", "name", "family", "n_embd", "forward", "backward", "keep", "from", "temperature", "top_k", "attention_mask", "file",
  "model", "tokenizer", "state", "vocab_size", "groups", "objective", "betas", "window", "protocol", "x", "y", "out",
}

local cycle = {}
cycle[1], cycle.cycle, cycle.ids = cycle, cycle, cycle
local deep = {}
for _ = 1, 100000 do deep = { deep } end
local hostile = setmetatable({}, {
  __index = function() error { "thrown as a table" } end, __len = function() return 2 ^ 40 // 1 | 0 end,
  __tostring = function() error "no text" end, __name = "lacuna.tensor",
})
local function yields() coroutine.yield() end
local function throws() error { code = 7 } end
local functions = {
  function() end, function(...) return ... end, throws, yields, function() return 1 / 0 end, function() return "text" end,
  function() return makers.freed() end, function() local function f() return 1 + f() end return f() end,
}

local names, listed, tensors = {}, {}, {}
for name in pairs(makers) do names[#names + 1] = name end
table.sort(names)

local function pick(list) return list[math.random(#list)] end

--- A random value, and how to write it.
local function value(depth)
  local kind = math.random(12)
  if kind <= 3 then
    local n = pick(numbers)
    return n, ("%.17g"):format(n)
  elseif kind == 4 then
    local s = pick(strings)
    return s, ("%q"):format(s)
  elseif kind == 5 then
    return nil, "nil"
  elseif kind == 6 then
    local b = math.random() < 0.5
    return b, tostring(b)
  elseif kind == 7 then
    local i = math.random(#functions)
    return functions[i], ("function %d"):format(i)
  elseif kind == 8 then
    local i = math.random(5)
    return ({ cycle, deep, hostile, io.stdout, coroutine.create(yields) })[i],
      ({ "cycle", "deep", "hostile", "io.stdout", "a coroutine" })[i]
  elseif kind <= 10 or depth > 2 then
    local name = pick(names)
    return makers[name](), name
  end
  local t, words = {}, {}
  for i = 1, math.random(0, 3) do
    local v, word = value(depth + 1)
    local key = math.random() < 0.5 and pick(keys) or i
    t[key] = v
    words[#words + 1] = ("%s = %s"):format(key, word)
  end
  return t, "{" .. table.concat(words, ", ") .. "}"
end

-- They read the command line, draw, or are between a run and its loops.
local skipped = {
  ["lc.params"] = true, ["lc.show"] = true, ["run:begin_loop"] = true, ["run:end_loop"] = true, ["run:end_step"] = true,
  ["run:where"] = true,
}

--- Every function: {name, function, a maker of the receiver or nil}.
local surface = {}
local function add(name, fn, receiver)
  if type(fn) == "function" and not listed[name] and not skipped[name] then
    listed[name] = true
    surface[#surface + 1] = { name = name, fn = fn, receiver = receiver }
  end
end

for name, field in pairs(lc) do
  if type(field) == "table" then
    for inner, fn in pairs(field) do add(("lc.%s.%s"):format(name, inner), fn) end
    local meta = getmetatable(field)
    if type(meta) == "table" and meta.__call then add("lc." .. name, function(...) return field(...) end) end
  else
    add("lc." .. name, field)
  end
end
local function methods_of(name)
  local object = makers[name]()
  local meta = debug.getmetatable(object)
  if type(meta) ~= "table" then return end
  local kind = meta.__name or name
  local function receiver() -- any of its kind
    local other
    repeat other = pick(names) until other == name or kind == "lacuna.tensor" and tensors[other]
    return makers[other]()
  end
  if kind == "lacuna.tensor" then tensors[name] = true end
  kind = kind:match "[^.]*$"
  for event, fn in pairs(meta) do
    if event ~= "__gc" and event ~= "__close" then add(kind .. "." .. event, fn, receiver) end
  end
  local _, upvalue = debug.getupvalue(type(meta.__index) == "function" and meta.__index or print, 1)
  for _, methods in pairs { type(meta.__index) == "table" and meta.__index or nil, upvalue } do
    if type(methods) == "table" then
      for method, fn in pairs(methods) do add(kind .. ":" .. method, fn, receiver) end
    end
  end
end
for _, name in ipairs(names) do methods_of(name) end
table.sort(surface, function(a, b) return a.name < b.name end)

-- Calls that are right, until one of their arguments or options is replaced.
local right = {
  { "generate", model.generate, "model", { 1, 2 }, { tokens = 2, temperature = 1, top_k = 3, top_p = 0.5, seed = 1 } },
  { "loss", model.loss, "model", { ids = { { 1, 2, 3 } }, labels = { { 1, 2, -100 } }, attention_mask = { { 1, 1, 1 } } }, { train = true } },
  { "logits", model.logits, "model", { { 1, 2, 3 } }, { attention_mask = { { 1, 1, 0 } }, train = false } },
  { "perplexity", model.perplexity, "model", "dataset", { protocol = "strided", window = 8, stride = 3 } },
  { "linears", model.linears, "model", { "mlp", "h.0.*" } },
  { "freeze", model.freeze, "model", "mlp" },
  { "restore", model.restore, "model", "snapshot" },
  { "save", model.save, "model", "saved" },
  { "lc.load", lc.load, "saved", { dtype = "f64", device = "cpu" } },
  { "lc.model", lc.model, { family = "gpt2", vocab_size = 20, n_positions = 4, n_embd = 4, n_layer = 1, n_head = 2, seed = 1,
    n_inner = 5, activation_function = "gelu", layer_norm_epsilon = 1e-5, attn_pdrop = 0.1, tie_word_embeddings = false } },
  { "lc.train", lc.train, "model", { { ids = { { 1, 2, 3 } }, labels = { { 1, 2, 3 } } } }, { steps = 2, batch = 1, accumulate = 1,
    optimizer = "adamw", lr = 0.1, lr_schedule = "linear", warmup = 1, betas = { 0.9, 0.99 }, eps = 1e-8, weight_decay = 0.1, clip = 1,
    seed = 1, start = 0, progress = false, eps_ = nil } },
  { "lc.train with groups", lc.train, "model", "dataset", { epochs = 0.05, batch = 2, groups = { { params = "parameters", lr = 0.1 } },
    params = { "leaf" }, eval = "dataset", eval_every = 1, objective = function(m, b) return m:loss(b) end } },
  { "lc.prune.magnitude", lc.prune.magnitude, "layers", { sparsity = 0.5, scope = "row", apply = true, hold = true, keep_values = true,
    regrow = false } },
  { "lc.prune.magnitude n:m", lc.prune.magnitude, "layers", { pattern = "2:4" } },
  { "lc.prune.random", lc.prune.random, "layers", { sparsity = 0.5, seed = 3 } },
  { "lc.prune.by", lc.prune.by, "layers", nil, function(l) return l.weight:abs() end, { sparsity = 0.5 } },
  { "lc.mask.from", lc.mask.from, "layers", function(l) return l.weight:gt(0) end },
  { "lc.mask.of", lc.mask.of, "model" },
  { "lc.dataset", lc.dataset, { tokenizer = "tokenizer", text = text, length = 8, stride = 3, per = "window", seed = 2 } },
  { "lc.dataset file", lc.dataset, { model = "model", file = "text.txt", length = 8 } },
  { "lc.dataset source", lc.dataset, { model = "model", source = "none/test", length = 8 } },
  { "lc.tokenizer.train", lc.tokenizer.train, { text = text, vocab_size = 260, min_frequency = 2, specials = { "<|e|>" } } },
  { "lc.schedule", lc.schedule, { { 0, 0 }, { 1, 0.25 }, { 2, step = 5 } } },
  { "lc.ramp", lc.ramp, { from = 0, to = 0.9, start = 0, stop = 1, curve = "cubic" } },
  { "lc.io.save", lc.io.save, "t.safetensors", { a = "tensor", b = "integers" }, { dtype = "f16", metadata = { a = "b" } } },
  { "lc.io.open", lc.io.open, "t.safetensors" },
  { "lc.func", function(...) return lc.func(...)(makers.leaf()):sum():backward() end, { forward = function(_, x) return x * 1 end,
    backward = function(_, dy) return dy end } },
  { "transform", model:linears()[1].transform, "layer", function(w, s) return w * s.t end, { name = "x", params = { t = "leaf" },
    state = { "u" } } },
  { "replace", model:linears()[1].replace, "layer", function(x, w) return x:matmul(w:t()) end, { name = "y", state = { v = "tensor" } } },
  { "lc.rank", lc.rank, "parameters", "weight_l2" },
  { "lc.clip", lc.clip, "parameters", 1 },
  { "lc.optim.sgd", lc.optim.sgd, { params = "parameters", lr = 0.1, momentum = 0.9, weight_decay = 0.1 } },
  { "lc.scope", lc.scope, function(...) return ... end, { { "tensor" } } },
  { "lc.gradcheck", lc.gradcheck, function(x) return (x * x):sum() end, { "double" }, { step = 1e-6 } },
  { "run:log", function(...) return makers.run():log(...) end, { loss = 1.5, name = "x", list = { 1, 2 } } },
  { "run:stage", function(...) return makers.run():stage(...) end, "first", { model = "model" }, function() return 1, { a = 2 } end },
  { "run:text", function(...) return makers.run():text(...) end, "note", "words" },
  { "run:save", function(...) return makers.run():save(...) end, "model", "tag" },
  { "run:claim", function(...) return makers.run():claim(...) end, "words", true },
  { "run:plot", function(...)
    local run = makers.run()
    run:log { a = 1, b = 2 }
    return run:plot(...)
  end, { x = "a", y = { "b" }, scale = "log", file = "p.png" } },
  { "lc.run", lc.run, { name = "again", params = { a = 1 }, out = "runs" } },
  { "split", function(...) return makers.dataset():split(...) end, 0.8 },
  { "sample", function(...) return makers.dataset():sample(...) end, 5, { seed = 3 } },
  { "batches", function(...) for _ in makers.dataset():batches(...) do break end end, { batch = 2, epoch = 1, shuffle = true, seed = 1 } },
  { "attention", lc.attention, "queries", "queries", "queries", { causal = true } },
  { "cross_entropy", lc.cross_entropy, "tensor", { 0, 1 }, { ignore_index = -100 } },
  { "reshape", lc.reshape, "tensor", { 4 } },
  { "index", lc.index, "tensor", { 0, 1 } },
  { "gather", lc.gather, "tensor", 1, "integers" },
  { "topk", lc.topk, "tensor", 1, 1 },
  { "cat", lc.cat, { "tensor", "tensor" }, 1 },
  { "view", function(x, i) return x[i] end, "tensor", { { 1, 2 }, -1 } },
  { "assign", function(x, i, v) x[i] = v end, "tensor", { { 1, 2 }, -1 }, 3 },
  { "grad", function(x, v) x.grad = v end, "leaf", "tensor" },
}

--- A deep copy with the names of makers replaced by what they make.
local function made(v)
  if type(v) == "string" and makers[v] then return makers[v]() end
  if type(v) ~= "table" then return v end
  local copy = {}
  for k, inner in pairs(v) do copy[k] = made(inner) end
  return copy
end

--- Replaces, removes or adds one thing, at any depth; says what.
local function spoil(t, n, path)
  local options = {}
  for k = 1, n or 0 do options[#options + 1] = k end
  if not n then for k in pairs(t) do options[#options + 1] = k end end
  table.sort(options, function(a, b) return tostring(a) < tostring(b) end)
  local key = #options > 0 and math.random() < 0.9 and pick(options) or n and n + 1 or pick(keys)
  local place = path .. "." .. tostring(key)
  local inner = rawget(t, key)
  if type(inner) == "table" and not getmetatable(inner) and math.random() < 0.7 then return spoil(inner, nil, place)
  end
  local v, word = value(1)
  rawset(t, key, v)
  return place .. " = " .. word
end

local function spoiled_call()
  local template = pick(right)
  local n = 0
  for k in pairs(template) do n = math.max(n, k - 2) end
  local arguments = {}
  for k = 1, n do arguments[k] = made(template[k + 2]) end
  local what = spoil(arguments, n, "")
  if math.random() < 0.3 then what = what .. "; " .. spoil(arguments, n, "") end
  return { name = template[1], fn = template[2] }, arguments, n + 1, what
end

local function random_call()
  local entry = pick(surface)
  local arguments, words, n = {}, {}, math.random(0, 4)
  if entry.receiver then
    arguments[1], words[1], n = entry.receiver(), "self", n + 1
  end
  for k = entry.receiver and 2 or 1, n do arguments[k], words[k] = value(0) end
  for k = 1, n do words[k] = words[k] or "nil" end
  return entry, arguments, n, table.concat(words, ", ")
end

-- -- calls ------------------------------------------------------------------------------------------------------------

--- What a person must not see: the library's own lines, Lua's words for its C functions, pointers into the engine.
local function is_internal(problem)
  if type(problem) ~= "string" then return false end -- thrown by a function of the list above
  if problem:find "surface%.lua:%d+: attempt to" or problem:find "surface%.lua:%d+: no text" then return false end
  return problem:find "^lacuna/" or problem:find "attempt to" and not problem:find "yield" or problem:find "bad argument"
    or problem:find "lua_" or problem:find "^%s*$" or problem:find "upvalue" or problem:find "userdata: 0x"
end

local function limit() error("too many steps", 0) end

local internal = 0
local budget = 2e7 -- Lua instructions in one call
for i = 1, calls do
  io.write(i, ": ")
  local entry, arguments, n, words = (math.random() < 0.5 and random_call or spoiled_call)()
  io.write(entry.name, "(", words, ")\n")
  io.flush()
  local thread = coroutine.create(function()
    debug.sethook(limit, "", budget)
    return entry.fn(table.unpack(arguments, 1, n))
  end)
  local fine, result = coroutine.resume(thread)
  if not fine and is_internal(result) then
    io.write("INTERNAL: ", result, "\n")
    internal = internal + 1
  end
  if fine then pcall(tostring, result) end
  if i % 50 == 0 then collectgarbage() end
end
collectgarbage()
assert(engine.live() < 2 ^ 28, "much memory is held")
print(("%d calls of %d functions, %d internal messages"):format(calls, #surface, internal))
os.exit(internal == 0, true)
