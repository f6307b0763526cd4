-- luacheck: no max line length
-- Disks that fill up, files that may not grow, directories that may not be written: one clear message, the old content or the new,
-- nothing beside it, and a process that goes on.

local lc = require "lacuna"
local cli = require "tests.cli"
local engine = require "lacuna.core.test"
local files = require "lacuna.core.files"
local sampling = require "tests.sampling"
local tiny = require "tests.tiny"
local temporary = dofile "tests/temporary.lua"

local ENOSPC = 28
local WRITES = 200 -- more than any of the calls below makes

local directory
setup(function()
  directory = temporary(".disk")
  files.make_dirs(directory)
end)
teardown(function() files.remove_tree(directory) end)

--- Every file below a path with a hash of what is in it, one a line.
local function content(path)
  local pipe = assert(io.popen(("cd '%s' 2>/dev/null && find . -type f -exec md5sum {} + | sort -k 2"):format(path)))
  local text = pipe:read "a"
  pipe:close()
  return text
end

local function shell(...)
  return cli.shell(("LACUNA=$(realpath %s); %s"):format(cli.program, string.format(...)))
end

--- Each write of fn in turn finds the disk full; `whole` says whether what is there then is one of the whole states.
local function fill_up(fn, prepare, whole)
  prepare()
  local failed = 0
  for n = 1, WRITES do
    prepare()
    engine.fail_write_at(n, ENOSPC)
    local ok, problem = pcall(fn)
    engine.fail_write_at(0, 0)
    if ok then break end
    failed = failed + 1
    assert.matches("No space left on device; free some space, or write somewhere else", problem)
    assert.is_nil(problem:find "\n")
    assert.is_true(whole(), ("write %d left something half done"):format(n))
    fn()
  end
  assert.is_true(failed > 0 and failed < WRITES)
end

describe("a full disk", function()
  it("leaves the model that was there, or none", function()
    local path = directory .. "/model"
    local old, new = tiny.gpt2(), tiny.gpt2 { seed = 8 }
    lc.prune.magnitude(new:linears(), { sparsity = 0.5 })
    old.tokenizer = lc.tokenizer.bytes()
    new.tokenizer = old.tokenizer
    old:save(path)
    local before = content(path)
    new:save(path)
    local after = content(path)
    assert.not_equal(before, after)
    fill_up(function() new:save(path) end, function()
      files.remove_tree(path)
      old:save(path)
    end, function() return content(path) == before end)
    assert.equal(after, content(path))
    fill_up(function() new:save(path) end, function() files.remove_tree(path) end,
      function() return not files.exists(path) end)
  end)

  it("leaves the tensor file that was there", function()
    local path = directory .. "/tensors.safetensors"
    fill_up(function() lc.io.save(path, { a = lc.zeros { 5 } }) end, function() lc.io.save(path, { a = lc.ones { 5 } }) end,
      function() return lc.io.open(path).a:sum():item() == 5 end)
    assert.equal(0, lc.io.open(path).a:sum():item())
  end)

  it("is reported once for large tensors, whose writes are many", function()
    local path = directory .. "/large.safetensors"
    fill_up(function() lc.io.save(path, { a = lc.zeros { 700000 }, b = lc.zeros { 700000 } }) end, function() files.remove_tree(path) end,
      function() return not files.exists(path) end)
  end)

  it("stops a run; its logs keep whole lines, its checkpoints whole files, and resuming ends as if nothing had been", function()
    local out = directory .. "/runs"
    local options = require "lacuna.options"
    local batches = tiny.batches(2, 2, 11)
    local function recipe()
      local run <close>, model = lc.run { name = "disk", out = out }, tiny.gpt2()
      run:stage("first", { model = model }, function()
        lc.train(model, batches, { steps = 3, run = run, save_every = 1, log_every = 1, lr = 1e-2 })
        run.state.best = lc.tensor { 1, 2 }
      end)
      run:save(model, "best")
      run:text("note", "done")
    end
    local function outcome()
      return files.read(out .. "/disk/metrics.jsonl") .. content(out .. "/disk/best") .. files.read(out .. "/disk/note.txt")
    end
    lc.seed(1)
    recipe()
    local want = outcome()
    for _, n in ipairs(sampling.of(22, 6)) do
      files.remove_tree(out)
      lc.seed(1)
      engine.fail_write_at(n, ENOSPC)
      local ok, problem = pcall(recipe)
      engine.fail_write_at(0, 0)
      if not ok then
        assert.matches("No space left on device", problem)
        for line in (files.read(out .. "/disk/metrics.jsonl") or ""):gmatch "[^\n]*" do assert.matches("^{?.*}?$", line) end
        assert.is_nil(content(out):find(".tmp-", 1, true))
        options.value.resume = true
        lc.seed(1)
        recipe()
        options.value.resume = nil
      end
      assert.equal(want, outcome())
    end
  end)

  it("only loses the cache of tokens", function()
    local path = directory .. "/text.txt"
    files.write(path, ("some words to cut. "):rep(200000))
    for n = 1, 3 do
      files.remove_tree "build/tests/cache/lacuna"
      engine.fail_write_at(n, ENOSPC)
      local dataset = lc.dataset { tokenizer = lc.tokenizer.bytes(), file = path, length = 64 }
      engine.fail_write_at(0, 0)
      assert.equal(19 * 200000 // 64, #dataset)
    end
  end)

  it("is a real one on a small tmpfs", function()
    local mounted = shell("mkdir -p '%s/small' && mount -t tmpfs -o size=256k tmpfs '%s/small'", directory, directory)
    if mounted.status ~= 0 then return pending "mounting is not allowed here" end
    local result = shell([[cd '%s/small' && $LACUNA -e '
      local lc = require "lacuna"
      lc.model { family = "gpt2", vocab_size = 300, n_positions = 64, n_embd = 64, n_layer = 2, n_head = 2 }:save "model"']], directory)
    local left = shell("ls -A '%s/small'", directory)
    shell("umount '%s/small'", directory)
    assert.equal(1, result.status)
    assert.matches("model.safetensors: cannot write: No space left on device; free some space", result.err)
    assert.equal("", left.out)
  end)
end)

describe("a limit on the size of files", function()
  it("is an error like any other, not the end of the process", function()
    local result = shell([[cd '%s' && ulimit -f 64 && $LACUNA -e '
      local lc = require "lacuna"
      local model = lc.model { family = "gpt2", vocab_size = 300, n_positions = 64, n_embd = 64, n_layer = 2, n_head = 2 }
      print(pcall(model.save, model, "limited"))
      print(pcall(lc.io.save, "limited.safetensors", { a = lc.zeros { 100000 } }))
      lc.io.save("small.safetensors", { a = lc.zeros { 10 } })
      print(lc.io.open("small.safetensors").a:numel())' && ls]], directory)
    assert.equal(0, result.status, result.err)
    assert.matches("^false\t.-limited.-: cannot write: File too large; free some space[^\n]*\nfalse\t[^\n]*File too large[^\n]*\n10\n", result.out)
    assert.is_nil(result.out:find(".tmp-", 1, true))
  end)
end)

describe("a directory that cannot be written", function()
  it("is named with its reason", function()
    local model = tiny.gpt2()
    files.write(directory .. "/file", "x")
    for path, reason in pairs {
      ["/proc/lacuna/model"] = "No such file or directory", [directory .. "/file/model"] = "Not a directory", [directory .. "/file"] = "Not a directory",
    } do
      local ok, problem = pcall(model.save, model, path)
      assert.is_false(ok)
      assert.matches(reason, problem)
      assert.is_nil(problem:find "\n")
      ok, problem = pcall(lc.run, { name = "x", out = path })
      assert.is_false(ok)
      assert.matches(reason, problem)
    end
  end)

  it("is refused to someone who may not write there", function()
    shell("mkdir -p '%s/locked' && chmod 755 '%s' '%s/locked'", directory, directory, directory)
    local as_nobody = shell "[ $(id -u) != 0 ] || echo setpriv --reuid=65534 --clear-groups".out:gsub("%s+$", "")
    if as_nobody == "" then shell("chmod 555 '%s/locked'", directory) end
    local binary = directory .. "/lacuna"
    shell("cp $LACUNA '%s'", binary)
    local result = shell([[cd '%s/locked' && %s '%s' -e '
      local lc = require "lacuna"
      lc.model { family = "gpt2", vocab_size = 30, n_positions = 4, n_embd = 4, n_layer = 1, n_head = 2 }:save "model"']],
      directory, as_nobody, binary)
    assert.equal(1, result.status)
    assert.matches("model: cannot write: Permission denied; check the permissions, or write somewhere else", result.err)
    local run = shell([[cd '%s/locked' && %s '%s' -e 'require("lacuna").run { name = "x" }']], directory, as_nobody, binary)
    assert.equal(1, run.status)
    assert.matches("runs: cannot make the directory: Permission denied", run.err)
  end)
end)
