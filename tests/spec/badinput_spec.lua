-- luacheck: no max line length
-- What people and files get wrong, and what means harm: one clear message each, exit status not 0, no crash, no hang, nothing that
-- only the library's author understands.

local lc = require "lacuna"
local cli = require "tests.cli"
local files = require "lacuna.core.files"
local sampling = require "tests.sampling"
local tiny = require "tests.tiny"
local temporary = dofile "tests/temporary.lua"

local directory
setup(function()
  directory = temporary(".bad")
  files.make_dirs(directory)
end)
teardown(function() files.remove_tree(directory) end)

--- Not by files.write, nor over an old file, which both wait for the disk.
local function put(path, text)
  os.remove(path)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

local function write(name, text)
  local path = directory .. "/" .. name
  put(path, text)
  return path
end

--- The one line that fn's error has.
local function message(fn, ...)
  local ok, problem = pcall(fn, ...)
  assert.is_false(ok)
  assert.equal("string", type(problem))
  assert.is_nil(problem:find "\n", problem)
  assert.is_nil(problem:find "^lacuna/", problem)
  return problem
end

local function refuses(pattern, fn, ...) assert.matches(pattern, message(fn, ...)) end

--- Repeatable random integers 0..n-1.
local function random(seed)
  local state = seed * 2654435761 + 12345
  return function(n)
    state = state * 6364136223846793005 + 1442695040888963407
    return (state >> 33) % n
  end
end

-- -- files ------------------------------------------------------------------------------------------------------------

--- Opens a file and reads all that is in it; an error must be one line that names the file.
local function read_all(path)
  local ok, problem = pcall(function()
    for _, tensor in pairs(lc.io.open(path)) do tensor:numel() end
  end)
  if ok then return true end
  assert.is_nil(problem:find "\n", problem)
  assert.is_not_nil(problem:find(path, 1, true), problem)
  return false
end

local function safetensors(header, data)
  return string.pack("<I8", #header) .. header .. (data or "")
end

describe("a safetensors file", function()
  it("cut off anywhere is refused", function()
    local path = write("whole.safetensors", "")
    lc.io.save(path, { a = lc.rand { 3, 4 }, bb = lc.tensor({ 1, 2, 3 }, { dtype = "i64" }) }, { metadata = { x = "y" } })
    local whole = files.read(path)
    assert.is_true(read_all(path))
    for _, n in ipairs(sampling.of(#whole, 60)) do assert.is_false(read_all(write("cut.safetensors", whole:sub(1, n - 1)))) end
  end)

  it("with any byte changed is read or refused", function()
    local path = write("whole.safetensors", "")
    lc.io.save(path, { a = lc.rand { 3, 4 }, bb = lc.tensor({ 1, 2, 3 }, { dtype = "i64" }) }, { metadata = { x = "y" } })
    local whole, draw = files.read(path), random(sampling.seed)
    for _ = 1, sampling.full and 3000 or 300 do
      local at = draw(#whole) + 1
      read_all(write("changed.safetensors", whole:sub(1, at - 1) .. string.char(draw(256)) .. whole:sub(at + 1)))
    end
  end)

  it("that means harm is refused", function()
    local function entry(dtype, shape, offsets) return ('{"a":{"dtype":"%s","shape":%s,"data_offsets":%s}}'):format(dtype, shape, offsets) end
    for what, text in pairs {
      ["no header"] = "", ["short header"] = "\1\0\0", ["endless header"] = string.pack("<i8", math.maxinteger) .. "{}",
      ["negative header"] = string.pack("<i8", -1) .. "{}", ["header beyond the file"] = string.pack("<I8", 1000) .. "{}",
      ["not JSON"] = safetensors "hello", ["an array"] = safetensors "[1,2]", ["deep JSON"] = safetensors(("["):rep(100000)),
      ["deep objects"] = safetensors(('{"a":'):rep(50000) .. "1" .. ("}"):rep(50000)),
      ["more than there is"] = safetensors(entry("F32", "[4]", "[0,16]"), ("x"):rep(8)),
      ["a product past 64 bits"] = safetensors(entry("F32", "[4294967296,4294967296,16]", "[0,0]")),
      ["negative sizes"] = safetensors(entry("F32", "[-1,-4]", "[0,16]"), ("x"):rep(16)),
      ["offsets turned round"] = safetensors(entry("F32", "[4]", "[16,0]"), ("x"):rep(16)),
      ["negative offsets"] = safetensors(entry("F32", "[4]", "[-16,0]"), ("x"):rep(16)),
      ["size and shape apart"] = safetensors(entry("F32", "[5]", "[0,16]"), ("x"):rep(16)),
      ["fractions"] = safetensors(entry("F32", "[2.5]", "[0,10]"), ("x"):rep(10)),
      ["numbers past 64 bits"] = safetensors(entry("F32", "[1e40]", "[0,16]"), ("x"):rep(16)),
      ["the same name twice"] = safetensors('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', "x"),
      ["overlapping tensors"] = safetensors('{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}', "xyz"),
      ["too many dimensions"] = safetensors(entry("U8", "[1,1,1,1,1,1,1,1,1,1,1,1]", "[0,1]"), "x"),
      ["no dtype"] = safetensors('{"a":{"shape":[1],"data_offsets":[0,1]}}', "x"),
      ["a list as dtype"] = safetensors('{"a":{"dtype":[],"shape":[1],"data_offsets":[0,1]}}', "x"),
      ["metadata of numbers"] = safetensors('{"__metadata__":{"a":1}}'), ["broken UTF-8"] = safetensors('{"\xff":1}'),
    } do
      assert.is_false(read_all(write("hostile.safetensors", text)), what)
    end
  end)

  it("with a type that tensors do not have is refused by that type's name, when it is read", function()
    refuses("F8_E4M3", function()
      return lc.io.open(write("f8.safetensors", safetensors('{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}', "x"))).a
    end)
  end)
end)

describe("a model's directory", function()
  local json = require "lacuna.json"
  setup(function() warn "@off" end) -- where tie_word_embeddings becomes true
  teardown(function() warn "@on" end)

  local function saved()
    local path = directory .. "/model"
    tiny.gpt2():save(path)
    return path
  end

  -- Loads the model at `path` with each key of `part`, a table of its configuration, changed to each of many values.
  local function change_each(path, config, part, more)
    local names = {}
    for name in pairs(part) do names[#names + 1] = name end
    table.sort(names)
    table.move(more, 1, #more, #names + 1, names)
    local values = { "-1", "0", "1", "1e9", "4611686018427387904", "2.5", "-1e300", '""', '"x"', "[]", "{}", "null", "true", "[[1]]", "99999999999999999999" }
    for _, name in ipairs(names) do
      for _, value in ipairs(values) do
        local old = part[name]
        part[name] = "@"
        put(path .. "/config.json", (json.encode(config, "config"):gsub('"@"', (value:gsub("%%", "%%%%")))))
        part[name] = old
        local ok, problem = pcall(lc.load, path)
        if ok then
          pcall(problem.loss, problem, { ids = { { 0, 0, 0 } } })
        else
          assert.is_nil(problem:find "^lacuna/", problem)
          assert.is_nil(problem:find("\n", 1, true), problem)
        end
      end
    end
  end

  it("with a changed configuration is loaded or refused", function()
    local path = saved()
    local config = json.decode(files.read(path .. "/config.json"), "config")
    change_each(path, config, config,
      { "n_inner", "activation_function", "layer_norm_epsilon", "tie_word_embeddings", "eos_token_id", "attn_pdrop" })
  end)

  it("of any family, with a changed configuration, is loaded or refused", function()
    for _, family in ipairs { "llama", "qwen2", "gpt_neox", "opt" } do
      local path = directory .. "/" .. family
      tiny.decoder(family, { num_hidden_layers = 1, pad_token_id = 2 }):save(path)
      local config = json.decode(files.read(path .. "/config.json"), "config")
      change_each(path, config, config, require("lacuna.core.model").keys(family))
    end
  end)

  it("with changed rotary scalings is loaded or refused", function()
    local path = directory .. "/rotary"
    tiny.decoder("llama", { num_hidden_layers = 1 }):save(path)
    local config = json.decode(files.read(path .. "/config.json"), "config")
    for _, name in ipairs { "default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional" } do
      config.rope_parameters = {
        rope_type = name, rope_theta = 1e4, factor = 2.0, original_max_position_embeddings = 9, low_freq_factor = 1.0,
        high_freq_factor = 4.0, short_factor = { 1, 1, 1, 1 }, long_factor = { 2, 2, 2, 2 },
      }
      put(path .. "/config.json", json.encode(config, "config"))
      assert(lc.load(path))
      change_each(path, config, config.rope_parameters,
        { "beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "partial_rotary_factor", "truncate" })
    end
  end)

  it("lists the tensors that are missing, too many, or of another shape", function()
    local path = saved()
    local tensors = {}
    for name, tensor in pairs(lc.io.open(path .. "/model.safetensors")) do tensors[name] = tensor end
    tensors["transformer.h.0.ln_1.bias"], tensors["transformer.h.1.mlp.c_fc.weight"] = nil, nil
    tensors["something.else"] = lc.zeros { 2 }
    lc.io.save(path .. "/model.safetensors", tensors)
    local problem = message(lc.load, path)
    assert.matches("2 missing: transformer.h.0.ln_1.bias, transformer.h.1.mlp.c_fc.weight", problem)
    assert.matches("1 unexpected: something.else", problem)
    tensors["transformer.h.0.ln_1.bias"], tensors["something.else"] = lc.zeros { 3 }, nil
    tensors["transformer.h.1.mlp.c_fc.weight"] = lc.zeros { 15, 60 }
    lc.io.save(path .. "/model.safetensors", tensors)
    refuses("transformer.h.0.ln_1.bias.*%(3%).*%(15%)", lc.load, path)
  end)

  it("without weights, without a configuration, or that is none says so", function()
    local path = saved()
    files.remove_tree(path .. "/model.safetensors")
    refuses("model.safetensors", lc.load, path)
    files.remove_tree(path .. "/config.json")
    refuses("config.json", lc.load, path)
    refuses("no/such/model", lc.load, "no/such/model")
    for _, text in ipairs { "", "{", "[]", "null", '{"model_type": 3}', '{"model_type": "nonsense"}', ("["):rep(1e6), "\0\0\0" } do
      put(path .. "/config.json", text)
      refuses("/model", lc.load, path)
    end
  end)
end)

describe("a tokenizer's files", function()
  it("with any byte changed are read or refused", function()
    local path = directory .. "/tokenizer"
    lc.tokenizer.train({ text = ("the cat sat on the mat. "):rep(20), vocab_size = 270 }):save(path)
    local draw = random(sampling.seed + 1)
    for _, name in ipairs { "tokenizer.json", "tokenizer_config.json" } do
      local whole = files.read(path .. "/" .. name)
      for _ = 1, sampling.full and 500 or 60 do
        local at = draw(#whole) + 1
        local length = draw(3)
        put(path .. "/" .. name, whole:sub(1, at - 1) .. string.char(draw(256)) .. whole:sub(at + length))
        local ok, problem = pcall(function()
          local tokenizer = lc.tokenizer(path)
          return tokenizer:decode(tokenizer:encode "the cat \xff sat")
        end)
        if not ok then assert.is_nil(problem:find("\n", 1, true), problem) end
      end
      put(path .. "/" .. name, whole)
    end
  end)
end)

describe("a path that is no plain file", function()
  local function pipe(name)
    local path = directory .. "/" .. name
    assert(os.execute("mkfifo " .. path))
    return path
  end

  it("is refused at once, whatever reads it", function()
    local bytes = lc.tokenizer.bytes()
    for _, name in ipairs { "pipe.txt", "pipe.jsonl", "pipe.txt.gz" } do
      refuses("cannot read from a pipe.*into a file", lc.dataset, { tokenizer = bytes, file = pipe(name), length = 4 })
    end
    refuses("cannot read from a pipe", lc.io.open, pipe "pipe.safetensors")
    files.make_dirs(directory .. "/pipes")
    pipe "pipes/config.json"
    pipe "pipes/tokenizer.json"
    refuses("config.json: cannot read from a pipe", lc.load, directory .. "/pipes")
    refuses("tokenizer.json: cannot read from a pipe", lc.tokenizer, directory .. "/pipes")
    refuses("/dev/zero: cannot read from a device", lc.dataset, { tokenizer = bytes, file = "/dev/zero", length = 4 })
    refuses("/dev/zero: cannot read from a device", lc.io.open, "/dev/zero")
    refuses("Is a directory", function() lc.dataset { tokenizer = bytes, file = directory, length = 4 } end)
    local recipe = cli.run(pipe "recipe.lua")
    assert.equal(1, recipe.status)
    assert.matches("^lacuna: .*recipe.lua: cannot read from a pipe", recipe.err)
  end)
end)

-- -- numbers ----------------------------------------------------------------------------------------------------------

describe("NaN in weights", function()
  local function spoiled()
    local model = tiny.gpt2()
    model:linears()[3].weight[{ 2, 5 }] = 0 / 0
    return model
  end

  it("stops training with the tensor's name, and changes nothing", function()
    local model = spoiled()
    local before = tostring(model:parameter("transformer.wte.weight"):detach():sum():item())
    refuses("step 1: the loss is not finite.*transformer%.h%.0%.mlp%.c_fc%.weight", lc.train, model, tiny.batches(1, 2, 11), { steps = 2 })
    assert.equal(before, tostring(model:parameter("transformer.wte.weight"):detach():sum():item()))
  end)

  it("is not pruned", function()
    refuses("transformer.h.0.mlp.c_fc: NaN at row 2, column 5", lc.prune.magnitude, spoiled():linears(), { sparsity = 0.5 })
    refuses("NaN at row", lc.prune.by, tiny.gpt2():linears(), nil, function(l) return l.weight * (0 / 0) end, { sparsity = 0.5 })
  end)
end)

describe("token ids and texts", function()
  it("out of range are named with the range", function()
    local model = tiny.gpt2()
    for _, ids in ipairs { { { 1, 53 } }, { { -1, 2 } }, { { 2 ^ 40 | 0, 1 } } } do
      refuses("0%.%.52", model.logits, model, ids)
      refuses("0%.%.52", model.loss, model, { ids = ids })
      refuses("0%.%.52", model.generate, model, ids[1], { tokens = 2 })
    end
    refuses("label", model.loss, model, { ids = { { 1, 2 } }, labels = { { 1, 99 } } })
    refuses("17", model.logits, model, { { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18 } })
    refuses("empty", model.generate, model, {})
    refuses("", model.logits, model, { {} })
    refuses("", model.loss, model, { ids = { { 1, 2 }, { 3 } } })
    refuses("", model.loss, model, {})
  end)

  it("that are empty or too short are refused", function()
    local tokenizer = lc.tokenizer.bytes()
    for _, text in ipairs { "", "abc" } do
      refuses("dataset", lc.dataset, { tokenizer = tokenizer, text = text, length = 8 })
    end
    assert.equal(0, tokenizer:encode(""):numel())
    assert.equal("", tokenizer:decode {})
    refuses("empty.txt", lc.dataset, { tokenizer = tokenizer, file = write("empty.txt", ""), length = 8 })
  end)
end)

-- -- values -----------------------------------------------------------------------------------------------------------

local cycle = {}
cycle[1], cycle.self = cycle, cycle
local deep = {}
for _ = 1, 200000 do deep = { deep } end

describe("tables without an end", function()
  it("are refused where data is expected", function()
    local model = tiny.gpt2()
    local run = lc.run { name = "cycle", out = directory }
    for _, endless in ipairs { cycle, deep } do
      refuses("tensor: tables are nested deeper than the 8 dimensions of a tensor, or contain themselves", lc.tensor, endless)
      refuses("", model.logits, model, endless)
      refuses("", model.generate, model, endless, { tokens = 1 })
      refuses("", model.linears, model, endless)
      refuses("", lc.clip, endless, 1)
      refuses("", lc.rank, endless, "size")
      refuses("", lc.train, model, endless, { steps = 1 })
      refuses("", lc.io.save, directory .. "/x", endless)
      refuses("", run.log, run, { x = endless })
      refuses("", lc.prune.magnitude, endless, { sparsity = 0.5 })
      refuses("", lc.schedule, endless)
      run.state.x = endless
      refuses("", run.stage, run, "a", {}, function() end)
      run.state.x = nil
      refuses("", run.stage, run, "b", {}, function() return endless end)
    end
  end)

  it("pass through lc.scope", function()
    local t
    local ring = {}
    ring.ring, ring.tensor = ring, nil
    local out = lc.scope(function()
      t = lc.ones { 2 }
      ring.tensor = lc.ones { 3 }
      return ring
    end)
    assert.equal(3, out.ring.tensor:sum():item())
    refuses("freed by lc.scope", t.sum, t)
    assert.equal(deep, lc.scope(function() return deep end))
  end)
end)

describe("absurd sizes", function()
  it("are refused before memory is asked for, or say that there is not so much", function()
    for _, shape in ipairs { { 2 ^ 62 | 0, 8 }, { 2 ^ 40 | 0, 2 ^ 40 | 0 }, { math.maxinteger }, { -1 }, { -5, -5 }, { 0, math.maxinteger, math.maxinteger } } do
      for _, make in ipairs { lc.zeros, lc.ones, lc.rand, lc.randn } do pcall(message, make, shape) end
      if shape[1] ~= 0 then refuses("", lc.zeros, shape) end
    end
    refuses("", lc.zeros, { 1, 1, 1, 1, 1, 1, 1, 1, 1 })
    refuses("", lc.arange, 0, 1e18)
    refuses("", lc.eye, 2 ^ 33 | 0)
    local x = lc.ones { 2, 3 }
    refuses("", x.expand, x, { 2 ^ 62 | 0, 2, 3 })
    refuses("", x.reshape, x, { -1, -1 })
    refuses("", x.reshape, x, { 2 ^ 62 | 0, 2 ^ 62 | 0 })
    refuses("", lc.model, { family = "gpt2", vocab_size = 2 ^ 40 | 0, n_embd = 2 ^ 20 | 0 })
    refuses("", lc.model, { family = "gpt2", n_layer = 2 ^ 40 | 0 })
    refuses("", lc.model, { family = "gpt2", n_head = 0 })
  end)

  it("are refused before memory fills up", function()
    local system = require "lacuna.core.system"
    local text = lc.dataset { tokenizer = lc.tokenizer.bytes(), text = ("abc"):rep(100), length = 8 }
    local model = tiny.gpt2()
    local before = system.memory().peak
    refuses("out of memory", text.sample, text, 2 ^ 40 | 0)
    refuses("out of memory", lc.zeros, { 2 ^ 42 | 0 })
    refuses("positions", model.generate, model, { 1, 2 }, { tokens = 1000000000 })
    refuses("outside 0..3", lc.topk, lc.ones { 3 }, 2 ^ 40 | 0)
    assert.is_true(system.memory().peak - before < 2 ^ 24)
  end)
end)

describe("what was freed", function()
  it("says so when it is used", function()
    local model = tiny.gpt2()
    local freed, handle
    lc.scope(function() freed = lc.ones { 2, 2 } end)
    for _, name in ipairs { "sum", "matmul", "reshape", "item", "totable", "backward", "detach", "numel" } do
      refuses("this tensor was freed by lc.scope", freed[name] or lc[name], freed, freed)
    end
    refuses("freed by lc.scope", function() return freed + 1 end)
    refuses("freed by lc.scope", function() return lc.ones { 2, 2 } * freed end)
    refuses("freed by lc.scope", lc.io.save, directory .. "/x", { a = freed })
    refuses("freed by lc.scope", lc.prune.by, model:linears(), nil, function() return freed end, { sparsity = 0.5 })
    refuses("freed by lc.scope", function() model:linears()[1]:transform(function() return freed end) model:loss { ids = { { 1, 2 } } } end)
    assert.equal(2, (lc.ones { 2 } * 1):sum():item()) -- recording and scopes are as they were
    do
      local closed <close> = tiny.gpt2()
      handle = closed
    end
    refuses("this model was closed", model.logits, handle, { { 1 } })
  end)
end)

-- -- functions --------------------------------------------------------------------------------------------------------

describe("a function that misbehaves inside the engine", function()
  local thrown = { code = 7 }
  local batch = { ids = { { 1, 2, 3 } } }
  --- Ways to run a function of the user's inside the engine: each takes it and calls it.
  local ways = {
    ["lc.func forward"] = function(f) lc.func { forward = f }(lc.ones { 2 }) end,
    ["lc.func backward"] = function(f)
      lc.func { forward = function(_, x) return x * 1 end, backward = f }(lc.param(lc.ones { 2 })):sum():backward()
    end,
    ["transform"] = function(f)
      local model = tiny.gpt2()
      model:linears()[2]:transform(f)
      model:loss(batch, { train = true }):backward()
    end,
    ["replace"] = function(f)
      local model = tiny.gpt2()
      model.recompute = true
      model:linears()[2]:replace(f)
      model:loss(batch, { train = true }):backward()
    end,
    ["objective"] = function(f) lc.train(tiny.gpt2(), { batch }, { steps = 1, objective = f }) end,
    ["eval"] = function(f) lc.train(tiny.gpt2(), { batch }, { steps = 1, eval = f, eval_every = 1 }) end,
    ["data"] = function(f) lc.train(tiny.gpt2(), f, { steps = 1 }) end,
    ["prune.by"] = function(f) lc.prune.by(tiny.gpt2():linears(), nil, f, { sparsity = 0.5 }) end,
    ["mask.from"] = function(f) lc.mask.from(tiny.gpt2():linears(), f) end,
    ["selection"] = function(f) tiny.gpt2():linears(f) end,
    ["gradcheck"] = function(f) lc.gradcheck(f, { lc.ones({ 2 }, { dtype = "f64" }) }) end,
    ["no_grad"] = function(f) lc.no_grad(f) end,
    ["scope"] = function(f) lc.scope(f) end,
  }

  --- After each, the engine is as it was: gradients are recorded, scopes are closed, training works.
  local function still_works()
    local x = lc.param(lc.tensor { 1, 2 })
    ;(x * x):sum():backward()
    assert.same({ 2, 4 }, x.grad:totable())
    assert.is_true(lc.train(tiny.gpt2(), { batch }, { steps = 1 }).loss > 0)
  end

  --- Calls f(x) under frames so wide that they fill Lua's stack after hundreds of levels: with narrow ones a data
  -- function would make 50,000 models before.
  local wide
  wide = load("local wide, n, f, x, " .. ("_, "):rep(190) .. [[_ = ...
    local result
    if n > 0 then result = wide(wide, n - 1, f, x) else result = f(x) end
    return result]])
  wide = (function(run) return function(...) return run(run, ...) end end)(wide)

  for name, way in pairs(ways) do
    it("throws a table through " .. name, function()
      local ok, problem = pcall(way, function() error(thrown) end)
      assert.is_false(ok)
      assert.equal(thrown, problem)
      still_works()
    end)

    it("yields in " .. name, function()
      local thread = coroutine.wrap(function() return pcall(way, function() coroutine.yield "yielded" end) end)
      local first, problem = thread()
      if first ~= "yielded" then -- where Lua itself calls it, it may
        assert.is_false(first)
        assert.matches("yield", problem)
      end
      thread = nil -- luacheck: ignore
      collectgarbage()
      still_works()
    end)

    it("calls itself without end in " .. name, function()
      local function again() return wide(9, way, again) end
      local ok, problem = pcall(way, again)
      assert.is_false(ok)
      if name == "eval" then
        assert.matches("the loss has no gradient", problem, 1, true) -- nothing records there, so nothing can be trained
      elseif name ~= "lc.func backward" then -- nor there
        assert.matches("stack overflow", tostring(problem))
      end
      still_works()
    end)

    it("returns nonsense from " .. name, function()
      for _, nonsense in ipairs { "text", {}, 0 / 0, print, lc.zeros { 0 } } do
        local ok, problem = pcall(way, function() return nonsense end)
        if not ok then
          assert.is_nil(tostring(problem):find "^lacuna/", tostring(problem))
          assert.is_nil(tostring(problem):find("attempt to", 1, true), tostring(problem))
        end
      end
      still_works()
    end)
  end
end)

-- -- everything -------------------------------------------------------------------------------------------------------

describe("wrong arguments", function()
  it("are named in words", function()
    local model = tiny.gpt2()
    refuses("distill: the teacher must be a model, got a number", lc.distill, model, 3)
    refuses("distill: the last argument must be a table, got a string", lc.distill, model, model, "x")
    refuses("loss.kl: the last argument must be a table, got a number", lc.loss.kl, lc.ones { 2, 3 }, lc.ones { 2, 3 }, 2)
    refuses("run: params must be a table, as lc.params gives, got a number", lc.run, { name = "x", out = directory, params = 2 })
    refuses("rank: expected a selection or a list of layers or parameters, got a number", lc.rank, 3, "size")
    refuses("run: out must be a string, got a table", lc.run, { name = "x", out = {} })
  end)
end)

describe("a misspelt option", function()
  it("is refused with a suggestion", function()
    local model, ids = tiny.gpt2(), { { 1, 2, 3 } }
    refuses("'label' %(did you mean 'labels'%?%)", model.loss, model, { ids = ids, label = ids })
    refuses("'idz' %(did you mean 'ids'%?%)", model.loss, model, { idz = ids })
    refuses("'label' %(did you mean 'labels'%?%)", lc.train, model, { { ids = ids, label = ids } }, { steps = 1 })
    refuses("ramp: unknown option 'curv' %(did you mean 'curve'%?%)", lc.ramp, { { 1, 0 }, { 0, 1 }, curv = "cubic" })
    refuses("schedule: unknown option 'curve'", lc.schedule, { { 1, 0 }, { 0, 1 }, curve = "cubic" })
    refuses("'stp' %(did you mean 'step'%?%)", lc.schedule, { { 1, stp = 3 } })
    refuses("distill: unknown option 'temperatur' %(did you mean 'temperature'%?%)", lc.distill, model, model, { temperatur = 2 })
    refuses("loss.kl: unknown option 'label'", lc.loss.kl, lc.ones { 2, 3 }, lc.ones { 2, 3 }, { label = lc.ones { 2 } })
    local run = lc.run { name = "options", out = directory }
    refuses("run:stage: unknown option 'kep'", run.stage, run, "a", {}, print, { kep = false })
    for t in lc.steps(model, { { ids = ids } }, { steps = 1 }) do
      refuses("t:skip: unknown option 'mod'", t.skip, t, model:parameters(), { mod = "grad" })
    end
  end)

  it("leaves a batch's fields for an objective alone", function()
    local seen
    lc.train(tiny.gpt2(), { { ids = { { 1, 2, 3 } }, weight = 3 } }, { steps = 1, objective = function(model, batch)
      seen = batch.weight
      return model:loss(batch.ids)
    end })
    assert.equal(3, seen)
  end)
end)

describe("the command line", function()
  it("refuses what it does not know in one line", function()
    for arguments, pattern in pairs {
      ["--thraeds 2"] = "did you mean '%-%-threads'", ["--threads x"] = "integer", ["--threads 0"] = "1 to 256", ["--threads"] = "threads",
      ["--seed -1"] = "seed", ["--device tpu"] = "device", ["--dtype f12"] = "dtype", ["none.lua"] = "none.lua", ["-e"] = "-e", ["/"] = "/",
      ["-e 'error{}'"] = "table", ["-e 'error()'"] = "nil", ["-e 'local x = '"] = "near", ["-e '\1'"] = "",
    } do
      local result = cli.run(arguments)
      assert.is_true(result.status == 1 or result.status == 2, arguments)
      assert.matches("^lacuna: [^\n]*\n$", result.err)
      assert.matches(pattern, result.err)
    end
  end)

  it("refuses a recipe that is no text, or has no end", function()
    for _, text in ipairs { "\27Lua garbage", "\0\0\0", ("("):rep(100000), "local t = " .. ("{"):rep(100000), ("x"):rep(1000000) } do
      local result = cli.recipe(text)
      assert.equal(1, result.status)
      assert.is_true(#result.err < 2000)
    end
    local result = cli.recipe "local function f() return 1 + f() end f()"
    assert.equal(1, result.status)
    assert.matches("stack overflow", result.err)
  end)
end)
