-- Ctrl-C at any instant: what was made stays whole, the next command runs, and its result is that of a run that was
-- never interrupted. The signal is a real one, from a timer; 250 instants over five kinds of work, sampled unless in
-- full.

local lc = require "lacuna"
local files = require "lacuna.core.files"
local sampling = require "tests.sampling"
local system = require "lacuna.core.system"
local test = require "lacuna.core.test"
local tiny = require "tests.tiny"
local temporary = dofile "tests/temporary.lua"

local INSTANTS = 50 -- for each kind of work

local function same(a, b)
  for name, p in pairs(a:parameters()) do
    if not p:detach():eq(b:parameter(name):detach()):all():item() then return false end
  end
  return true
end

--- Runs fn, interrupted after so many seconds; whether it was. Any other error is the test's.
local function interrupted(fn, seconds)
  local ok, problem = pcall(function()
    test.interrupt_after(math.max(seconds, 1e-6))
    fn()
    test.interrupt_after(0)
  end)
  if not ok and problem ~= "interrupted" then error(problem, 0) end
  return not ok
end

--- Calls fn(seconds) for instants spread over the time that work() takes; fn says whether it was interrupted.
local function at_instants(work, fn)
  local duration = math.huge
  for _ = 1, 3 do
    local start = system.clock()
    work()
    duration = math.min(duration, system.clock() - start)
  end
  local count = 0
  for _, instant in ipairs(sampling.of(INSTANTS, 5)) do
    if fn(duration * (instant - 0.5) / INSTANTS) then count = count + 1 end
  end
  assert(count > 0, "no instant was inside the work")
end

local config = { n_embd = 48, n_positions = 33, n_layer = 3 }
local batches = tiny.batches(2, 4, 33, 5)

describe("Ctrl-C", function()
  it("inside a forward or backward pass leaves the weights, and the next pass is right", function()
    local model = tiny.gpt2(config)
    local untouched = model:clone()
    local function pass()
      for _, p in pairs(model:parameters()) do p.grad = nil end
      model:loss(batches[1], { train = true }):backward()
      return model:parameter("transformer.h.0.mlp.c_fc.weight").grad:tolist()
    end
    local want = pass()
    at_instants(pass, function(seconds)
      local was = interrupted(pass, seconds)
      assert.True(same(model, untouched))
      assert.same(want, pass())
      return was
    end)
  end)

  it("inside a training step gives the step before or the step after, never a part", function()
    local model = tiny.gpt2(config)
    local before = model:snapshot()
    local function step() lc.train(model, batches, { steps = 2, lr = 1e-2, weight_decay = 0.1 }) end
    local start = model:clone()
    lc.train(model, batches, { steps = 1, lr = 1e-2, weight_decay = 0.1 })
    local middle = model:clone()
    model:restore(before)
    step()
    local finish = model:clone()
    at_instants(function() model:restore(before) step() end, function(seconds)
      model:restore(before)
      local was = interrupted(step, seconds)
      assert.True(same(model, start) or same(model, middle) or same(model, finish))
      model:restore(before)
      step()
      assert.True(same(model, finish))
      return was
    end)
  end)

  --- On so many threads: a single one takes pieces of work without a look between the last and what follows.
  local function leaves_whole_layers(threads, options)
    local model, all = tiny.gpt2(config), system.threads()
    system.threads(threads)
    local before, dense = model:snapshot(), model:clone():linears()
    local function prune() return lc.prune.sparsegpt(model:linears(), batches, options) end
    local function afresh()
      lc.mask.held(model):lift()
      model:restore(before)
    end
    prune()
    local pruned = model:clone():linears()
    at_instants(function() afresh() prune() end, function(seconds)
      afresh()
      local was, reached = interrupted(prune, seconds), true
      for i, layer in ipairs(model:linears()) do
        reached = reached and layer.held ~= nil
        assert.equal(reached, layer.held ~= nil, layer.name)
        local wanted = reached and pruned[i] or dense[i]
        assert.True(layer.weight:eq(wanted.weight):all():item(), layer.name)
      end
      assert.True(was or reached)
      assert.equal(0, prune():violations(model))
      assert.near(0.5, model:linears():sparsity(), 0.01)
      return was
    end)
    system.threads(all)
  end

  it("inside pruning on a text leaves its layers pruned and held up to one, and dense from there on", function()
    leaves_whole_layers(system.threads(), { sparsity = 0.5 })
  end)

  it("inside pruning in groups on one thread does too", function() leaves_whole_layers(1, { pattern = "2:4" }) end)

  it("inside pruning gives the dense weights or the pruned ones", function()
    local model = tiny.gpt2(config)
    local function prune() return lc.prune.magnitude(model:linears(), { sparsity = 0.5, hold = false }) end
    local dense, before = model:clone(), model:snapshot()
    prune()
    local pruned = model:clone()
    at_instants(function() model:restore(before) prune() end, function(seconds)
      model:restore(before)
      local was = interrupted(prune, seconds)
      assert.True(same(model, dense) or same(model, pruned))
      assert.equal(0, prune():violations(model))
      assert.True(same(model, pruned))
      return was
    end)
  end)

  it("inside saving leaves a directory that loads as the old model or the new one, and nothing else in it", function()
    local old, new = tiny.gpt2(config), tiny.gpt2 { n_embd = 48, n_positions = 33, n_layer = 3, seed = 8 }
    local directory = temporary()
    old:save(directory)
    local function names()
      local pipe = assert(io.popen("ls -A " .. directory))
      local text = pipe:read "a"
      pipe:close()
      return text
    end
    local want = names()
    at_instants(function() new:save(directory) end, function(seconds)
      old:save(directory)
      local was = interrupted(function() new:save(directory) end, seconds)
      local loaded = lc.load(directory)
      assert.True(same(loaded, old) or same(loaded, new))
      assert.equal(want, names())
      return was
    end)
    os.execute("rm -r " .. directory)
  end)

  it("is seen inside one long word, one long decoding, a large tensor of zeros and the end of a file", function()
    local tokenizer = lc.tokenizer.train { text = ("ab abab "):rep(50), vocab_size = 260 }
    local ids = tokenizer:encode "abab ab"
    local path = temporary()
    local work = {
      word = function() tokenizer:encode(("ab"):rep(100)) end,
      decoding = function() tokenizer:decode(ids) end,
      zeros = function() lc.zeros { 1 << 20 } end,
      file = function() files.write(path, "text") end,
    }
    for name, fn in pairs(work) do
      test.cancel()
      local ok, problem = pcall(fn)
      assert.False(ok, name)
      assert.equal("interrupted", problem)
    end
    assert.Nil(io.open(path))
    for _, fn in pairs(work) do fn() end
    os.remove(path)
  end)

  it("is answered once, and waits for work that must not be cut", function()
    local done = false
    assert.True(interrupted(function()
      system.uninterrupted(function()
        local stop = system.clock() + 0.05
        while system.clock() < stop do done = false end
        done = true
      end)
    end, 0.01))
    assert.True(done)
    for _ = 1, 1000 do lc.zeros { 3 } end -- no request is left over
  end)
end)
