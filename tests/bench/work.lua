-- The work that `make bench-peers` measures, one JSON line per result with the fields of peer.py's.
--
--   lacuna tests/bench/work.lua [work ...]     train256 train64 perplexity generate add bpe start; default all
--
-- Each runs in a process of its own, so that its peak resident memory is its own.
local lc = require "lacuna"
local core = require "lacuna.core.train"
local json = require "lacuna.json"

local program = os.getenv "LACUNA" or "build/lacuna"

local function report(fields)
  print(json.encode(fields, "bench"))
end

--- Median seconds of fn over some repeats.
local function median(repeats, fn)
  local times = {}
  for i = 1, repeats do
    local start = core.seconds()
    fn()
    times[i] = core.seconds() - start
  end
  table.sort(times)
  return times[(repeats + 1) // 2]
end

--- GPT-2 124M, random weights, no dropout.
local function gpt2()
  return lc.model { family = "gpt2", resid_pdrop = 0, embd_pdrop = 0, attn_pdrop = 0 }
end

--- A training step, B = 4, AdamW: the median after two steps that allocate.
local function train(length)
  local ids = lc.randint(0, 50257, { 4, length })
  local warm, counted = 2, length > 100 and 5 or 9
  local times, last = {}, nil
  local function batches() return { ids = ids, labels = ids } end
  for t in lc.steps(gpt2(), batches, { steps = warm + counted, batch = 4, lr = 1e-4 }) do
    t:update()
    local now = core.seconds()
    if t.step > warm then times[#times + 1] = now - last end
    last = now
  end
  table.sort(times)
  local seconds = times[(counted + 1) // 2]
  local _, resident = core.memory()
  report {
    work = "train" .. length, tokens_per_second = 4 * length / seconds, seconds = seconds, peak_mib = resident / 2 ^ 20,
  }
end

local work = {}

function work.train256() train(256) end
function work.train64() train(64) end

function work.perplexity()
  local model, ids = gpt2(), lc.randint(0, 50257, { 1, 1024 })
  local function loss() return model:loss({ ids = ids, labels = ids }):item() end
  lc.no_grad(loss)
  report { work = "perplexity", tokens_per_second = 1024 / median(5, function() lc.no_grad(loss) end) }
end

function work.generate()
  local model, prompt, tokens = gpt2(), {}, 64
  for i = 1, 16 do prompt[i] = 7 * i end
  local function run() model:generate(prompt, { tokens = tokens, temperature = 0 }) end
  run()
  report { work = "generate", tokens_per_second = tokens / median(3, run) }
end

--- Microseconds for x + y on 64 floats, plain and recorded.
function work.add()
  local x, y, count = lc.randn { 64 }, lc.randn { 64 }, 200000
  local function loop() for _ = 1, count do local _ = x + y end end
  local plain = median(5, loop)
  x = lc.param(x)
  report { work = "add", plain_us = plain / count * 1e6, recorded_us = median(5, loop) / count * 1e6 }
end

--- MB/s of GPT-2's BPE on wiki.test.raw, in one string and by line.
function work.bpe()
  local shared = os.getenv "LACUNA_SHARED" or ""
  local file = io.open(shared .. "/wikitext-2-raw/wiki.test.raw", "rb")
  if not file then
    report { work = "bpe", skipped = "wiki.test.raw is not there; set LACUNA_SHARED" }
    return
  end
  local text, lines = file:read "a", {}
  file:close()
  for line in text:gmatch "[^\n]*\n" do lines[#lines + 1] = line end
  local function whole() lc.tokenizer(shared .. "/tokenizers/gpt2"):encode(text) end
  local loading = median(3, function() lc.tokenizer(shared .. "/tokenizers/gpt2") end)
  local tokenizer = lc.tokenizer(shared .. "/tokenizers/gpt2")
  local by_line = median(3, function() for _, line in ipairs(lines) do tokenizer:encode(line) end end)
  report { work = "bpe", whole_mb_s = #text / 1e6 / (median(3, whole) - loading), by_line_mb_s = #text / 1e6 / by_line }
end

function work.start()
  report { work = "start", seconds = median(20, function() os.execute(program .. " -e ''") end) }
end

local order = { "train256", "train64", "perplexity", "generate", "add", "bpe", "start" }

local wanted = #arg > 0 and arg or order
if #wanted == 1 then
  assert(work[wanted[1]], "no such work")()
else
  for _, name in ipairs(wanted) do os.execute(("%s %s %s"):format(program, arg[0], name)) end
end
