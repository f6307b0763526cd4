-- Out of memory: any allocation of the engine or of Lua may fail. What ran says so in one line, leaves nothing half
-- done and no bytes behind, and works when it is tried again.

local lc = require "lacuna"
local engine = require "lacuna.core.test"
local files = require "lacuna.core.files"
local sampling = dofile "tests/sampling.lua"
local tiny = dofile "tests/tiny.lua"
local temporary = dofile "tests/temporary.lua"

local batches = tiny.batches(2, 2, 11)
local directory

setup(function()
  directory = temporary(".oom")
  files.make_dirs(directory)
end)
teardown(function() files.remove_tree(directory) end)

--- Bytes of tensors and graphs, and the engine's other bytes, when nothing is waiting to be collected. The second is
-- what Lua does not count of all bytes, so the allocator's rounding of Lua's objects is in it.
local function live()
  collectgarbage()
  collectgarbage()
  local buffers, all = engine.live()
  return buffers, all - collectgarbage "count" * 1024
end

local function is_out_of_memory(problem)
  return type(problem) == "string" and not problem:find "\n"
    and (problem:find "out of memory" ~= nil or problem == "not enough memory")
end

--- Names of files that a writer left behind.
local function leftovers()
  local pipe = assert(io.popen(("find %s -name '*.tmp-*'"):format(directory)))
  local names = pipe:read "a"
  pipe:close()
  return names
end

--- What makes a model's state, each thing as a hash: weights, gradients, held masks.
local function state_of(model)
  local all = {}
  local function hash(tensor) return files.hash(table.concat(tensor:detach():flatten():totable(), " ")) end
  for name, p in pairs(model:parameters()) do
    all[name], all[name .. ".grad"] = hash(p), p.grad and hash(p.grad)
  end
  all.text = tostring(model)
  return all
end

--- Fails with the names of what differs.
local function same(expected, got, what)
  if type(expected) ~= "table" or type(got) ~= "table" then return assert.same(expected, got, what) end
  local names = {}
  for name in pairs(expected) do if got[name] ~= expected[name] then names[#names + 1] = name end end
  for name in pairs(got) do if expected[name] == nil then names[#names + 1] = name end end
  assert.equal("", table.concat(names, ", "), what)
end

--- Runs `act` on what `prepare` gives, with sampled allocations failing: one after the other, and ten in a row, which
-- also defeats Lua's second try. `old` and `new` are what `look` sees before and after an `act` that is left alone: a
-- failed one must show `old` (or, with `either`, `new`), and after one more `act` it is `new`.
local function sweep(case)
  local function attempt(times)
    local first = case.prepare()
    local old = case.look(first)
    case.act(first)
    local new = case.look(first)
    first = nil -- luacheck: ignore
    case.act(case.prepare()) -- all modules are loaded and all tables have grown
    local subject = case.prepare()
    local before = engine.allocations()
    case.act(subject)
    local count = engine.allocations() - before
    subject = nil -- luacheck: ignore (for the collector)
    local buffers, bytes = live()
    local failed = 0
    local every = times == 1 and 1 or 10 -- in full too: runs of failures overlap
    for _, place in ipairs(sampling.of(count // every, times == 1 and 20 or 10)) do
      local n = place * every
      subject = case.prepare()
      local ok, problem = engine.failing(n, times, case.act, subject)
      if not ok then
        failed = failed + 1
        assert.is_true(is_out_of_memory(problem), ("allocation %d of %d: %s"):format(n, count, tostring(problem)))
        assert.equal("", leftovers())
        local now = case.look(subject)
        if not case.either or not pcall(same, new, now) then
          same(old, now, ("allocation %d of %d"):format(n, count))
          case.act(subject)
        end
      end
      same(new, case.look(subject), ("allocation %d of %d, tried again"):format(n, count))
      problem, subject = nil, nil -- luacheck: ignore
    end
    local buffers_after, bytes_after = live()
    assert.equal(buffers, buffers_after)
    assert.is_true(bytes_after - bytes < 8000, ("%d bytes are left of %d failures"):format(bytes_after - bytes, failed))
    return failed, count
  end
  local failed = attempt(1)
  failed = failed + attempt(10)
  assert.is_true(failed > 0, "no allocation failed")
end

describe("out of memory", function()
  it("while a model is made, saved and loaded", function()
    local path = directory .. "/load"
    local original = tiny.gpt2()
    lc.prune.magnitude(original:linears(), { sparsity = 0.5 })
    original:save(path)
    sweep {
      prepare = function() return {} end,
      act = function(box) box.model = lc.load(path) end,
      look = function(box) return box.model and state_of(box.model) or "no model" end,
    }
    sweep {
      prepare = function() return {} end,
      act = function(box) box.model = tiny.gpt2() end,
      look = function(box) return box.model and state_of(box.model) or "no model" end,
    }
  end)

  it("in a forward and backward pass", function()
    sweep {
      prepare = tiny.gpt2,
      act = function(m) m:loss(batches[1], { train = true }):backward() end,
      look = state_of,
    }
  end)

  it("in those of every family, made on the spot", function()
    local longrope = { rope_type = "longrope", short_factor = { 1, 1, 1, 1 }, long_factor = { 2, 2, 3, 4 } }
    local kinds = {
      { "llama", { rope_parameters = longrope } },
      { "qwen2", { pad_token_id = 3 } },
      { "gpt_neox", { hidden_dropout = 0.1 } },
      { "opt", { pad_token_id = 3 } },
    }
    for _, kind in ipairs(kinds) do
      local config = { num_hidden_layers = 1 }
      for key, value in pairs(kind[2]) do config[key] = value end
      sweep {
        prepare = function() return {} end,
        act = function(box)
          local model = tiny.decoder(kind[1], config)
          model.recompute = kind[1] == "qwen2"
          model:loss({ ids = { { 3, 1, 4, 1 }, { 5, 3, 2, 6 } }, attention_mask = { { 0, 1, 1, 1 }, { 1, 1, 1, 1 } } },
            { train = true }):backward()
          box.model = model
        end,
        look = function(box) return box.model and state_of(box.model) or "no model" end,
      }
    end
  end)

  it("while text is generated, by heads that are turned and by positions of the mask", function()
    for _, family in ipairs { "gpt_neox", "opt" } do
      local model = tiny.decoder(family, { num_hidden_layers = 1 })
      sweep {
        prepare = function() return {} end,
        act = function(box) box.text = model:generate({ { 3, 1, 4 }, { 1 } }, { tokens = 2, stop = false }) end,
        look = function(box) return box.text and table.concat(box.text[1], " ") or "nothing" end,
      }
    end
  end)

  it("in an optimizer's step, which may be tried again", function()
    for kind, more in pairs { adamw = { eps = 1e-6 }, sgd = { momentum = 0.9 } } do
      sweep {
        prepare = function()
          local model = tiny.gpt2()
          lc.prune.magnitude(model:linears(), { sparsity = 0.5 })
          model:loss(batches[1], { train = true }):backward()
          more.params, more.lr = model:parameters(), 1e-2
          return { model = model, optimizer = lc.optim[kind](more) }
        end,
        act = function(box) box.optimizer:step() end,
        look = function(box) return state_of(box.model) end,
      }
    end
  end)

  it("while gradients are clipped", function()
    sweep {
      prepare = function()
        local model = tiny.gpt2()
        model:loss(batches[1]):backward()
        return model
      end,
      act = function(m) lc.clip(m:parameters(), 0.01) end,
      look = state_of,
    }
  end)

  it("in lc.train", function()
    sweep {
      prepare = function() return tiny.gpt2() end,
      act = function(m) lc.train(m, batches, { steps = 1, lr = 1e-2, accumulate = 2 }) end,
      look = state_of,
      either = true,
    }
  end)

  it("while pruning", function()
    for _, options in ipairs {
      { sparsity = 0.5, keep_values = true }, { sparsity = 0.7, scope = "model" }, { pattern = "2:4" },
    } do
      sweep {
        prepare = function() return tiny.gpt2 { n_embd = 12, n_head = 2 } end,
        act = function(m) lc.prune.magnitude(m:linears(), options) end,
        look = state_of,
      }
    end
  end)

  it("while saving", function()
    local path = directory .. "/saved"
    local function read()
      local seen = {}
      for _, name in ipairs { "config.json", "generation_config.json", "model.safetensors", "lacuna.safetensors" } do
        seen[name] = files.read(path .. "/" .. name) or "none"
      end
      return seen
    end
    local model = tiny.gpt2()
    lc.prune.magnitude(model:linears(), { sparsity = 0.5 })
    sweep {
      prepare = function()
        files.remove_tree(path)
        return model
      end,
      act = function(m) m:save(path) end,
      look = read,
    }
    local other = tiny.gpt2 { seed = 8 }
    sweep {
      prepare = function()
        model:save(path)
        return other
      end,
      act = function(m) m:save(path) end,
      look = read,
    }
  end)

  it("while generating", function()
    local model = tiny.gpt2()
    sweep {
      prepare = function() return {} end,
      act = function(box)
        local out = model:generate({ { 1, 2, 3 }, { 4, 5 } }, { tokens = 6, temperature = 1, seed = 3 })
        box.out = table.concat(out[1], " ") .. "; " .. table.concat(out[2], " ")
      end,
      look = function(box) return box.out or "nothing" end,
    }
  end)

  it("while a dataset is built and cut", function()
    local path = directory .. "/text.txt"
    files.write(path, ("The quick brown fox jumps over the lazy dog.\n"):rep(40))
    local tokenizer = lc.tokenizer.bytes()
    sweep {
      prepare = function() return {} end,
      act = function(box)
        local whole = lc.dataset { tokenizer = tokenizer, file = path, length = 16 }
        local first = whole:split(0.8)
        local sample = first:sample(5, { seed = 2 })
        local list = {}
        for batch in sample:batches { batch = 2 } do list[#list + 1] = batch.ids:totable() end
        box.list = require("lacuna.json").encode(list, "list")
      end,
      look = function(box) return box.list or "nothing" end,
    }
  end)

  it("while a tokenizer is trained, saved and loaded", function()
    local path = directory .. "/tokenizer"
    local text = ("the cat sat on the mat; the dog sat on the log.\n"):rep(10)
    sweep {
      prepare = function()
        files.remove_tree(path)
        return {}
      end,
      act = function(box)
        local tokenizer = lc.tokenizer.train { text = text, vocab_size = 280 }
        tokenizer:save(path)
        box.ids = lc.tokenizer(path):encode(text):totable()
      end,
      look = function(box) return box.ids and table.concat(box.ids, " ") or "nothing" end,
    }
  end)

  it("in tensor arithmetic with gradients", function()
    sweep {
      prepare = function() return {} end,
      act = function(box)
        local a = lc.param(lc.tensor { { 1.5, 2 }, { 3, -4 } })
        local y = lc.func {
          forward = function(ctx, x)
            ctx:save(x)
            return x * x
          end,
          backward = function(ctx, dy) return 2 * ctx:saved() * dy end,
        }
        local loss = lc.scope(function() return (y(a):matmul(a):softmax(-1) * a):sum() end)
        loss:backward()
        box.list = ("%.9g %s %s"):format(loss:item(), a.grad, a)
      end,
      look = function(box) return box.list or "nothing" end,
    }
  end)

  it("in a run with stages, logs and checkpoints", function()
    local number, out = 0, directory .. "/runs" -- then a directory for each run: closing one can fail too
    local function read(name) -- files.read would remember the name: runs list the files that were read
      local file <close> = io.open(out .. "/oom/" .. name)
      return file and file:read "a" or ""
    end
    sweep {
      prepare = function() return {} end,
      act = function(box)
        files.remove_tree(out)
        number = number + 1
        out = ("%s/runs-%06d"):format(directory, number)
        local run <close> = lc.run { name = "oom", out = out }
        local model = tiny.gpt2()
        run:stage("first", { model = model }, function()
          lc.train(model, batches, { steps = 2, run = run, save_every = 1, log_every = 1 })
          run.state.best = lc.tensor { 1, 2 }
          run:save(model, "best")
        end)
        box.metrics = read "metrics.jsonl"
      end,
      look = function(box)
        for line in read "metrics.jsonl":gmatch "[^\n]+" do assert.matches("^{.*}$", line) end
        return box.metrics or "nothing"
      end,
    }
  end)
end)
