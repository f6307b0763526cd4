-- Runs: what the directory holds, stages, run.state, the comparison of logs, claims, tables and plots.

local files = require "lacuna.core.files"
local cli = dofile "tests/cli.lua"
local temporary = dofile "tests/temporary.lua"
local json = require "lacuna.json"

local root

before_each(function()
  root = temporary()
end)

after_each(function() cli.shell("rm -rf " .. root) end)

--- Runs a recipe whose text begins with a tiny model, its batches and a run; `resume` goes on with the last.
local PRELUDE = [[
local lc = require "lacuna"
local tiny = dofile "tests/tiny.lua"
local model, batches = tiny.gpt2(), tiny.batches(4, 2, 11)
local run = lc.run { name = "My Run" }
]]
local recipe_path

local function recipe(text, options)
  recipe_path = recipe_path or temporary()
  local file = assert(io.open(recipe_path, "w"))
  file:write(PRELUDE, text)
  file:close()
  return cli.run(("--out %s %s %s"):format(root, options or "", recipe_path))
end

local function read(name) return files.read(root .. "/my-run/" .. name) end

local function succeeds(result)
  assert.equal("", result.err)
  assert.equal(0, result.status)
  return result.out
end

local function fails(result, text)
  assert.not_equal(0, result.status)
  assert.is_truthy(result.err:find(text, 1, true), result.err)
end

describe("a run's directory", function()
  it("says what was run, and where", function()
    succeeds(recipe "run:log { x = 1 }")
    local manifest = json.decode(read "manifest.json", "manifest")
    assert.equal(1, manifest.lacuna_format)
    assert.equal("My Run", manifest.name)
    assert.matches("%a+ .*%d+%.%d+", manifest.engine.compiler)
    assert.matches("^-", manifest.engine.flags)
    assert.equal("string", type(manifest.engine.revision))
    assert.equal(PRELUDE .. "run:log { x = 1 }", manifest.recipe.text)
    for _, key in ipairs { "seed", "engine", "cpu", "threads", "blas", "params", "started" } do
      assert.is_not_nil(manifest[key], key)
    end
  end)

  it("notes the hashes of the files that were read, and refuses others on resume", function()
    local text = [[
      run:log { loss = lc.load(os.getenv "LACUNA_TEST_MODEL"):loss(batches[1]):item() }
    ]]
    local copy = root .. "/model"
    cli.shell(("mkdir -p %s && cp tests/golden/train/* %s"):format(copy, copy))
    local function play(flags)
      local file = assert(io.open(root .. "/recipe.lua", "w"))
      file:write(PRELUDE, text)
      file:close()
      local command = "LACUNA_TEST_MODEL=%s %s --out %s %s %s/recipe.lua"
      return cli.shell(command:format(copy, cli.program, root, flags, root))
    end
    succeeds(play "")
    local noted = json.decode(read "manifest.json", "manifest").files
    assert.equal(32, #noted[copy .. "/model.safetensors"])
    assert.equal(32, #noted[copy .. "/config.json"])
    assert.is_nil(noted[root .. "/my-run/manifest.json"])
    succeeds(play "--resume")
    cli.shell(("echo >> %s/config.json"):format(copy))
    fails(play "--resume", "config.json has changed since this run began")
  end)

  it("is a new one unless --resume is given", function()
    succeeds(recipe "run:log { x = 1 }")
    assert.matches("my%-run%-2\n$", succeeds(recipe "print(run.dir)"))
    assert.matches("my%-run\n", succeeds(cli.shell("ls " .. root)))
  end)

  it("holds lines with sorted keys, infinities as words, tensors as numbers", function()
    succeeds(recipe [[
      run:log { b = 1, a = 0.5, c = 1/0, d = 0/0, e = model:parameter('transformer.ln_f.weight'):sum() }
    ]])
    assert.matches('^{"a":0.5,"b":1,"c":"inf","d":"nan","e":15.0}\n$', read "metrics.jsonl")
  end)

  it("holds saved models, texts, tables and claims", function()
    local out = succeeds(recipe [[
      run:save(model, "dense")
      run:text("sample", "once upon a time")
      for i = 1, 3 do run:log { sparsity = i / 10, perplexity = 2.0 ^ i } end
      run:table { columns = { "sparsity", "perplexity" } }
      run:claim("two is more than one", 2 > 1)
      local again, name = lc.load(run.dir .. "/dense"), "transformer.wte.weight"
      print(again:parameter(name):eq(model:parameter(name)):all():item())
    ]])
    assert.matches("sparsity  perplexity\n     0.1           2\n     0.2           4\n     0.3           8\n", out, 1,
      true)
    assert.matches("holds%s+two is more than one", out)
    assert.matches("true\n$", out)
    assert.equal("once upon a time", read "sample.txt")
    assert.matches('"claim":"two is more than one","holds":true', read "metrics.jsonl", 1, true)
  end)

  it("stores a table separated by commas where its file's name says so, and prints it all the same", function()
    local out = succeeds(recipe [[
      run:log { method = 'the "best", perhaps', perplexity = 1.23456789 }
      run:log { method = "none" }
      run:log { perplexity = 3 }
      run:table { columns = { "method", "perplexity" }, file = "all.csv" }
    ]])
    assert.matches('             method  perplexity\nthe "best", perhaps     1.23457\n               none\n', out, 1,
      true)
    assert.equal('method,perplexity\n"the ""best"", perhaps",1.23456789\nnone,\n', read "all.csv")
  end)

  it("suggests a method for one that it has not", function()
    fails(recipe "run:lgo {}", "run has no 'lgo' (did you mean 'log'?)")
  end)

  it("is one for each run: two of one name are refused, two names go on in their own", function()
    fails(recipe [[lc.run { name = "my run" }]],
      ("run: 'my run' would share %s/my-run with 'My Run', which is open; give each run of a recipe its own"
      ):format(root))
    assert.matches("my%-run%-4\nrun:log: the run 'my run' is closed\n$", succeeds(recipe [[
      run:close()
      local again <close> = lc.run { name = "my run" }
      again:close()
      local third = lc.run { name = "my run" }
      print(third.dir)
      print((select(2, pcall(again.log, again, {})):gsub("^.*: run:", "run:")))
    ]]))
    cli.shell("rm -rf " .. root)
    local text = [[
      local other = lc.run { name = "My Run 2" }
      run:log { x = 1 }
      other:log { y = 2 }
      print(run.dir, other.dir)
    ]]
    local first = succeeds(recipe(text))
    assert.equal(("%s/my-run\t%s/my-run-2\n"):format(root, root), first)
    assert.equal(first, succeeds(recipe(text, "--resume")))
  end)

  it("is one process's at a time; one that was killed leaves it free", function()
    local text = [[
      run:log { x = 1 }
      io.write "begun\n"
      io.flush()
      if os.getenv "LACUNA_TEST_WAIT" then os.execute "exec sleep 5" end
    ]]
    recipe(text)
    local command = ("%s --out %s --resume %s"):format(cli.program, root, recipe_path)
    local first = assert(io.popen("exec env LACUNA_TEST_WAIT=1 sh -c 'echo $$; exec " .. command .. "'"))
    local pid = first:read "l"
    assert.equal("begun", first:read "l")
    local second = cli.shell(command)
    cli.shell("kill -9 " .. pid)
    fails(second, ("run: another process is running in %s/my-run; wait until it has ended"):format(root))
    assert.matches("^[^\n]*\n$", second.err)
    succeeds(cli.shell(command))
    first:close()
  end)

  it("cannot be where nothing can be written", function()
    local file = assert(io.open(root, "w"))
    file:close()
    local result = recipe "run:log { x = 1 }"
    assert.not_equal(0, result.status)
    assert.is_truthy(result.err:find(root, 1, true), result.err)
  end)
end)

describe("a disk that is full", function()
  it("is said, leaves nothing half-written, and is gone on from when there is room", function()
    local text = [[
      run:stage("tune", { model = model }, function()
        lc.train(model, batches, { steps = 4, run = run, save_every = 2 })
      end)
      run:log { loss = model:loss(batches[1]):item() }
    ]]
    recipe_path = recipe_path or temporary()
    succeeds(recipe(text))
    local whole = read "metrics.jsonl"
    cli.shell("rm -rf " .. root)
    local full = cli.shell(("ulimit -f 64; %s --out %s %s"):format(cli.program, root, recipe_path))
    fails(full, "File too large")
    local left = cli.shell(("find %s -name '*.safetensors*'"):format(root)).out
    assert.equal("", left)
    succeeds(cli.run(("--out %s --resume %s"):format(root, recipe_path)))
    assert.equal(whole, read "metrics.jsonl")
  end)
end)

describe("run:plot", function()
  it("draws a PNG, and keeps the script", function()
    local out = succeeds(recipe [[
      for _, kind in ipairs { "a", "b" } do
        for i = 1, 4 do run:log { kind = kind, step = i, loss = #kind + i * i } end
      end
      print(run:plot { x = "step", y = "loss", by = "kind", scale = "log", file = "curve" })
      print(run:plot { x = "step", y = "loss", where = { kind = "a" } })
      print(run:plot { x = "step", y = "loss", where = function(row) return row.step > 1 end, file = "late.png" })
    ]])
    assert.matches("curve%.png\n.*loss%-by%-step%.png\n.*late%.png\n$", out)
    assert.equal("\137PNG", read("curve.png"):sub(1, 4))
    assert.matches("title 'b'", read "curve.gnuplot")
    assert.is_nil(read("loss-by-step.gnuplot"):find("$curve2", 1, true))
  end)

  it("names the package where gnuplot is missing, and goes on", function()
    local text = PRELUDE .. [[run:log { x = 1, y = 2 } print(run:plot { x = "x", y = "y" })]]
    local path = temporary()
    local file = assert(io.open(path, "w"))
    file:write(text)
    file:close()
    local result = cli.shell(("mkdir -p %s/empty && PATH=%s/empty && exec $OLDPWD%s --out %s %s"):format(root, root,
      "", root, path):gsub("exec %$OLDPWD", "exec ./" .. cli.program))
    os.remove(path)
    assert.equal(0, result.status, result.err)
    assert.matches("apt-get install gnuplot-nox", result.err, 1, true)
    assert.equal("nil\n", result.out)
  end)

  it("refuses what was never logged", function()
    fails(recipe [[run:log { x = 1 } run:plot { x = "x", y = "yy" }]], "no logged line has numbers for 'x' and 'yy'")
    fails(recipe [[run:log { x = 1 } run:plot { x = "x", y = "x", scal = "log" }]], "did you mean 'scale'?")
    fails(recipe [[run:log { x = 1, y = 0 } run:log { x = 2, y = -1 } run:plot { x = "x", y = "y", scale = "log" }]],
      "no logged line has numbers for 'x' and 'y', positive where the axis is logarithmic")
  end)

  it("leaves out what a logarithmic axis has no place for", function()
    succeeds(recipe [[
      for x, y in ipairs { 0, 4, -1, 8 } do run:log { x = x, y = y } end
      run:plot { x = "x", y = "y", scale = "log", file = "curve" }]])
    assert.matches("$curve1 << EOD\n2 4\n4 8\nEOD", read "curve.gnuplot", 1, true)
  end)
end)

describe("a mistake in a call", function()
  it("is said with the recipe's own line", function()
    for call, said in pairs {
      ["run:save(nil)"] = "run:save: the tag must be a name for a directory, got 'nil'",
      ["run.save(nil)"] = "run:save: expected a run before the colon, got nil",
      ["run.log { x = 1 }"] = "run:log: expected a run before the colon, got a table",
      ["run.rows()"] = "run:rows: expected a run before the colon, got nil",
      ["run:text('a', 5)"] = "run:text: the text must be a string, got a number",
      ["run.text('a', 'b')"] = "run:text: expected a run before the colon, got a string",
      ["run.claim('a', true)"] = "run:claim: expected a run before the colon, got a string",
      ["run.stage('a', {}, print)"] = "run:stage: expected a run before the colon, got a string",
      ["run.table()"] = "run:table: expected a run before the colon, got nil",
      ["run.plot { x = 'x', y = 'y' }"] = "run:plot: expected a run before the colon, got a table",
      ["lc.train(model, batches, { steps = 1, run = {} })"] = "steps: run must be a run, got a table",
      ["for t in lc.steps(model, batches, { steps = 1 }) do t.update() end"] =
        "t:update: expected a step before the colon, got nil",
      ["lc.rank(model:linears(), 'size').top(0.5)"] = "rank:top: expected a ranking before the colon, got a number",
      ["lc.params({}, { 1 })"] = "params: each argument must be a string, got a number",
      ["lc.params { x = 1, toy = 2 }"] = "params: toy must be a table, got a number",
      ["lc.loss.kl(lc.zeros { 2, 3 }, lc.zeros { 2, 3 }, { labels = 1 })"] =
        "loss.kl: labels must be a tensor, got a number",
    } do
      local result = recipe(call)
      assert.equal(("lacuna: %s:5: %s\n"):format(recipe_path, said), result.err)
    end
  end)
end)

describe("a stage", function()
  local TWO = [[
    local function stage(name, lr)
      return run:stage(name, { model = model }, function()
        print("runs " .. name)
        local r = lc.train(model, batches, { steps = 2, lr = lr, run = run })
        run.state.done = (run.state.done or 0) + 1
        run.state.w = model:parameter("transformer.ln_f.bias"):detach() * 1
        return r.loss, nil, { name = name }
      end)
    end
    local a, none, b = stage("first", 1e-2)
    print(a, none, b.name, run.state.done, model:loss(batches[1]):item())
    local c = stage("second", 1e-3)
    print(c, run.state.done, run.state.w:sum():item(), model:loss(batches[1]):item())
  ]]

  it("is not run again: values, models, run.state come back", function()
    local first = succeeds(recipe(TWO))
    local second = succeeds(recipe(TWO, "--resume"))
    assert.matches("runs first", first)
    assert.is_nil(second:find "runs")
    assert.equal((first:gsub("runs %w+\n", "")), second)
  end)

  it("puts streams of random numbers back", function()
    local text = [[
      run:stage("draw", {}, function() lc.randn { 5 } end)
      print(lc.randn({ 1 }):item())
    ]]
    assert.equal(succeeds(recipe(text)), succeeds(recipe(text, "--resume")))
  end)

  it("refuses a model that it changed without naming it", function()
    fails(recipe [[
      run:stage("prune", {}, function() lc.prune.magnitude(model:linears(), { sparsity = 0.5 }) end)
    ]], "stage 'prune' changed a model that it does not name")
  end)

  it("refuses to come back as another, or over another recipe", function()
    succeeds(recipe [[run:stage("one", {}, function() end)]])
    fails(recipe([[run:stage("two", {}, function() end)]], "--resume"), "the recipe is not what this run began with")
    fails(recipe([[run:stage("one", {}, function() end)]], "--resume --toy"),
      "manifest.json: --toy is not what this run began with: it was false and is true now; start a new run")
    local text = [[
      run:close()
      lc.run { name = "tuned", params = lc.params { lr = 1e-3, layers = { 1, 2 } } }]]
    succeeds(recipe(text))
    local other = ("%s --out %s --resume %s "):format(cli.program, root, recipe_path)
    local refusal = "parameter %s is not what this run began with: it was %s and is %s now;"
    fails(cli.shell(other .. "--lr 2e-3"), refusal:format("lr", "0.001", "0.002"))
    fails(cli.shell(other .. "--layers 1"), refusal:format("layers", "[1,2]", "[1]"))
    succeeds(cli.shell(other))
  end)

  it("does not come back in a new run where another's manifest is gone", function()
    local text = [[run:stage("one", {}, function() io.write(run.dir:match "[^/]*$", "\n") end) run:log { x = 1 }]]
    assert.equal("my-run\n", succeeds(recipe(text)))
    cli.shell(("rm %s/my-run/manifest.json"):format(root))
    assert.equal("my-run-2\n", succeeds(recipe(text)))
    assert.equal("", succeeds(recipe(text, "--resume")))
  end)

  it("stores plain data and tensors only", function()
    fails(recipe [[run:stage("one", {}, function() return model end)]], "cannot be stored: a lacuna.model")
    fails(recipe [[run:stage("one", {}, function() run.state.f = print end)]], "cannot be stored: a function")
    fails(recipe [[run.state = { rounds = 0 }]], "run.state is the run's own table")
    fails(recipe [[run:stage("one", {}, function() run:stage("two", {}, function() end) end)]],
      "'two' cannot begin inside 'one'")
  end)

  it("keeps held masks and installed methods' tensors", function()
    local text = [[
      local scale = lc.tensor { 1.5 }
      local layer = model:linears("mlp.up")[1]
      local handle = layer:transform(function(w, s) return w * s.scale end, { params = { scale = scale } })
      run:stage("tune", { model = model }, function()
        lc.prune.magnitude(model:linears(), { sparsity = 0.5 })
        lc.train(model, batches, { steps = 3, lr = 1e-2, run = run })
      end)
      lc.train(model, batches, { steps = 3, lr = 1e-2, run = run })
      print(model:sparsity(), handle.scale:item(), model:loss(batches[1]):item())
    ]]
    local first = succeeds(recipe(text))
    assert.equal(first, succeeds(recipe(text, "--resume")))
    assert.not_equal("1.5", first:match "%S+%s+(%S+)")
  end)

  it("may fail and be caught: the next one is stored and comes back all the same", function()
    local text = [[
      print(pcall(run.stage, run, "first", {}, function() error("no", 0) end))
      print(run:stage("second", {}, function() print "ran" return 7 end))
    ]]
    assert.equal("false\tno\nran\n7\n", succeeds(recipe(text)))
    assert.equal("false\tno\n7\n", succeeds(recipe(text, "--resume")))
  end)

  it("says which method is missing", function()
    succeeds(recipe [[
      run:stage("tune", { model = model }, function()
        model:linears("mlp.up")[1]:transform(function(w) return w * 1 end)
      end)
    ]])
    fails(recipe([[
      run:stage("tune", { model = model }, function()
        model:linears("mlp.up")[1]:transform(function(w) return w * 1 end)
      end)
    ]], "--resume"), "install methods before the stage")
  end)
end)

describe("a resumed log", function()
  it("is compared, not repeated", function()
    local text = "for i = 1, 3 do run:log { x = i } end"
    succeeds(recipe(text))
    local before = read "metrics.jsonl"
    succeeds(recipe(text, "--resume"))
    assert.equal(before, read "metrics.jsonl")
  end)

  it("says what differs", function()
    local text = [[run:log { x = tonumber(os.getenv "LACUNA_TEST_X") or 1 }]]
    succeeds(recipe(text))
    local result = cli.shell("LACUNA_TEST_X=2 " .. ("%s --out %s --resume %s"):format(cli.program, root, recipe_path))
    fails(result, 'line 1 of ' .. root .. '/my-run/metrics.jsonl is not what this run logged before it was stopped')
    assert.matches('was {"x":1}\n  is  {"x":2}', result.err, 1, true)
  end)

  it("loses a line that was written in part", function()
    succeeds(recipe "run:log { x = 1 } run:log { x = 2 }")
    local file = assert(io.open(root .. "/my-run/metrics.jsonl", "r+"))
    local text = file:read "a"
    file:close()
    file = assert(io.open(root .. "/my-run/metrics.jsonl", "w"))
    file:write((text:sub(1, -4)))
    file:close()
    succeeds(recipe("run:log { x = 1 } run:log { x = 2 }", "--resume"))
    assert.equal(text, read "metrics.jsonl")
  end)
end)

describe("a loop of a run", function()
  it("refuses a tag for the best model before its first step", function()
    fails(recipe [[
      local function data() error "a step" end
      lc.train(model, data, { steps = 1, run = run, eval = batches, best = "a/b" })]],
      "steps: option 'best': the tag must be a name for a directory, got 'a/b'")
  end)

  it("saves the best model, and keeps the last checkpoints", function()
    local out = succeeds(recipe [[
      local values = { 3, 1, 2 }
      local r = lc.train(model, batches, { steps = 6, lr = 1e-2, run = run, save_every = 1, keep = 2, eval_every = 2,
        eval = function(m, t) return values[t.step // 2] end, best = "best" })
      print(r.best.step, r.best.eval, r.eval)
    ]])
    assert.equal("4\t1\t2\n", out)
    local list = cli.shell(("ls %s/my-run/checkpoints %s/my-run/best"):format(root, root)).out
    assert.is_nil(list:find("step-000004", 1, true))
    assert.is_truthy(list:find("step-000005", 1, true) and list:find("step-000006", 1, true))
    assert.is_truthy(list:find("model.safetensors", 1, true))
  end)

  it("is not gone on with under other options than it was stored with", function()
    local text = [[
      local data = lc.dataset { tokenizer = lc.tokenizer.bytes(), text = ("abc "):rep(99), length = 8 }
      model = tiny.gpt2 { vocab_size = 257 }
      local options = { steps = 4, lr = 1e-2, save_every = 2, run = run }
      local change = load("local lc, model, options = ... " .. (os.getenv "LACUNA_TEST_CHANGE" or ""))
      change(lc, model, options)
      lc.train(model, data, options)
    ]]
    local whole = succeeds(recipe(text))
    local command = ("LACUNA_TEST_CHANGE='%%s' %s --out %s --resume %s"):format(cli.program, root, recipe_path)
    for change, what in pairs {
      ["options.lr = 2e-2"] = "'lr' was 0.01 when%s, and is 0.02 now",
      ["options.steps = 5"] = "'steps' was 4 when%s, and is 5 now",
      ["options.batch = 4"] = "'batch' was 8 when%s, and is 4 now",
      ["options.seed = 9"] = "'seed' was 0 when%s, and is 9 now",
      ["options.accumulate = 2"] = "'accumulate' was 1 when%s, and is 2 now",
      ["options.warmup = 1"] = "'warmup' was 0 when%s, and is 1 now",
      ["options.clip = false"] = "'clip' was 1 when%s, and is false now",
      ["options.optimizer = [[sgd]]"] = "'optimizer' was adamw when%s, and is sgd now",
      ["options.betas = {0.9, 0.99}"] = "'betas' was {0.9, 0.999} when%s, and is {0.9, 0.99} now",
      ["options.weight_decay = 0"] = "'weight_decay' was 0.01 when%s, and is 0 now",
      ["options.lr_schedule = [[linear]]"] = "'lr_schedule' was constant when%s, and is linear now",
      ["options.lr_schedule = lc.ramp {{1, 0}, {0.5, 1}}"] =
        "'lr_schedule' was constant when%s, and is linear ramp {1, from 0}, {0.5, from 1} now",
      ["options.groups = {{params = model:linears [[mlp.up]], lr = 1}}"] =
        "'groups: transformer.h.0.mlp.c_fc.weight' was not given when%s, and is adamw, lr 1, ",
      ["options.objective = function(m, b) return m:loss(b) end"] =
        "'objective' was causal when%s, and is a function now; set it back, or start a new run without --resume",
    } do
      fails(cli.shell(command:format(change)), what:format " this training loop was stored")
    end
    assert.equal(whole, succeeds(cli.shell(command:format "")))
  end)

  it("calls a function of batches again for those used up", function()
    local text = [[
      local called = {}
      local function data(i)
        called[#called + 1] = i
        return batches[i % #batches + 1]
      end
      lc.train(model, data, { steps = 3, lr = 1e-2, run = run })
      print(table.concat(called, " "), model:loss(batches[1]):item())
    ]]
    local first = succeeds(recipe(text))
    assert.matches("^1 2 3\t", first)
    assert.equal(first, succeeds(recipe(text, "--resume")))
  end)
end)
