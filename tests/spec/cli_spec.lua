-- The command line: what runs, what is printed where, and the exit status.

local cli = require "tests.cli"
local temporary = dofile "tests/temporary.lua"

describe("a training step", function()
  local code = [[
    local lc = require "lacuna"
    local model = lc.model { family = "gpt2", n_embd = 96, n_layer = 2, n_head = 2, vocab_size = 257, dtype = "f64" }
    lc.train(model, { { ids = lc.randint(0, 257, { 4, 60 }) } }, { steps = 2, progress = false })
    for line in io.lines "/proc/self/maps" do
      library = library or line:match "openblas%-(%l+)/"
    end
    for line in io.lines "/proc/self/status" do
      threads = threads or line:match "^Threads:%s*(%d+)"
    end
    print(library, threads)]]

  for _, build in ipairs { "pthread", "openmp" } do
    it("leaves as many threads as were asked for, with Debian's OpenBLAS for " .. build, function()
      local directory = cli.shell("ls -d /usr/lib/*/openblas-" .. build).out:match "%S+"
      if not directory then pending("libopenblas0-" .. build .. " is not installed") end
      local result = cli.shell(("LD_LIBRARY_PATH=%s %s --threads 2 -e '%s'"):format(directory, cli.program, code))
      assert.same({ build .. "\t2\n", "" }, { result.out, result.err })
    end)
  end
end)

describe("the command line", function()
  it("runs a recipe with its arguments, and leaves `arg` whole", function()
    local result = cli.recipe("print(...) print(arg[0], arg[1], arg[2], arg[-1], arg[-2])", "one --two", "--seed 3")
    assert.equal("", result.err)
    assert.equal(("one\t--two\n%s\tone\t--two\t3\t--seed\n"):format(result.path), result.out)
    assert.equal(0, result.status)
  end)

  it("runs code given with -e, in order, where globals may be made", function()
    local result = cli.run [[-e 'x = 1' -e 'print(x + 1)']]
    assert.same({ "2\n", "", 0 }, { result.out, result.err, result.status })
  end)

  it("gives -e the library as lc, and a recipe after it none", function()
    local result = cli.run "-e 'print(lc.ones({ 2 }):sum():item())' -e 'lc = 5' -e 'print(lc)'"
    assert.same({ "2.0\n5\n", "", 0 }, { result.out, result.err, result.status })
    assert.truthy(cli.recipe("print(lc)", "", "-e 'print(lc ~= nil)'").err:find("undeclared variable 'lc'", 1, true))
  end)

  it("fails where what it prints cannot be written", function()
    if not io.open "/dev/full" then return pending "needs /dev/full" end
    for _, code in ipairs { "print(1)", "print(1) os.exit(0)", 'io.write(("x"):rep(1e6))' } do
      local result = cli.shell(("%s -e '%s' >/dev/full"):format(cli.program, code))
      assert.equal(1, result.status)
      assert.matches("^lacuna: standard output cannot be written", result.err)
    end
    local silent = cli.run "-e 'local x = 1' >/dev/full"
    assert.same({ "", 0 }, { silent.err, silent.status })
    assert.equal(3, cli.shell(cli.program .. " -e 'print(1) os.exit(3)' >/dev/full").status)
  end)

  it("reads a recipe from standard input", function()
    assert.equal("7\ta\n", cli.shell("echo 'print(3 + 4, ...)' | " .. cli.program .. " - a").out)
    assert.equal("7\n", cli.shell("echo 'print(3 + 4)' | " .. cli.program).out)
  end)

  it("respects LUA_PATH, and finds files beside the recipe", function()
    local directory = temporary()
    assert(os.execute(("mkdir -p %s/lib && echo 'return 5' >%s/lib/five.lua && echo 'return 6' >%s/six.lua"):format(
      directory, directory, directory)))
    assert(os.execute(("echo 'print((require \"six\"))' >%s/recipe.lua"):format(directory)))
    local result = cli.shell(("LUA_PATH='%s/lib/?.lua' %s -e 'print((require \"five\"))'"):format(
      directory, cli.program))
    assert.equal("5\n", result.out)
    assert.equal("6\n", cli.run(directory .. "/recipe.lua").out)
    os.execute("rm -r " .. directory)
  end)

  it("prints versions, the BLAS, the CPU and the threads", function()
    local result = cli.run "--threads 1 --version"
    assert.equal(0, result.status)
    for _, line in ipairs { "^Lacuna %d+%.%d+%.%d+\n", "\nLua       Lua 5%.4", "\nBLAS      .", "\nCPU       .",
      "\nfeatures  .", "\nthreads   1\n", "\noptional  gnuplot " } do
      assert.truthy(result.out:find(line), line)
    end
  end)

  it("lists its options", function()
    local result = cli.run "--help"
    assert.equal(0, result.status)
    for _, name in ipairs { "device", "threads", "seed", "dtype", "resume", "out", "toy", "blas-kernels", "version",
      "help", "traceback" } do
      assert.truthy(result.out:find("\n  --" .. name, 1, true), name)
    end
  end)

  for arguments, message in pairs {
    ["--sede 3"] = "unknown option '--sede' (did you mean '--seed'?); see lacuna --help",
    ["--seed"] = "option '--seed' needs a value; see lacuna --help",
    ["--seed -1"] = "option '--seed' must be at least 0, got -1; see lacuna --help",
    ["--blas-kernels no"] = "option '--blas-kernels' must be one of auto, env, got 'no'; see lacuna --help",
    ["--threads two"] = "option '--threads' expects an integer, got 'two'; see lacuna --help",
    ["--device gpu"] = "option '--device' must be one of cpu, cuda, got 'gpu' (did you mean 'cpu'?); see lacuna --help",
    ["-e"] = "option '-e' needs a value; see lacuna --help",
    ["-q"] = "unknown option '-q'; see lacuna --help",
  } do
    it("refuses " .. arguments, function()
      local result = cli.run(arguments)
      assert.same({ "", ("lacuna: %s\n"):format(message), 2 }, { result.out, result.err, result.status })
    end)
  end

  it("says that a device is not in this build", function()
    local result = cli.run "--device cuda -e 'print(1)'"
    assert.same({ "", "lacuna: --device cuda: this build has kernels for cpu alone\n", 1 },
      { result.out, result.err, result.status })
  end)

  it("makes and loads models in the numbers of --dtype, where the call says nothing else", function()
    local text = ([[
      local lc = require "lacuna"
      local config = { family = "gpt2", vocab_size = 9, n_positions = 8, n_embd = 4, n_layer = 1, n_head = 1 }
      local directory = %q
      local model = lc.model(config)
      model:save(directory)
      print(model.dtype, lc.load(directory).dtype, lc.load(directory, { dtype = "f32" }).dtype)
    ]]):format(temporary())
    assert.equal("f64\tf64\tf32\n", cli.recipe(text, "", "--dtype f64").out)
    assert.equal("f32\tf32\tf32\n", cli.recipe(text).out)
  end)

  it("names a file that is not there", function()
    local result = cli.run "/nowhere/recipe.lua"
    assert.same({ "", "lacuna: cannot open /nowhere/recipe.lua: No such file or directory\n", 1 },
      { result.out, result.err, result.status })
  end)
end)

describe("errors of a recipe", function()
  local function message(text, before)
    local result = cli.recipe(text, "", before)
    assert.equal(1, result.status)
    return (result.err:gsub(result.path, "recipe.lua"))
  end

  it("are one line on standard error", function()
    assert.equal("lacuna: recipe.lua:2: oh\n", message "local x = 1\nerror 'oh'")
    assert.equal("lacuna: recipe.lua:1: attempt to perform arithmetic on a nil value (local 'x')\n",
      message "local x; x = x + 1")
    assert.equal("lacuna: recipe.lua:1: unexpected symbol near '='\n", message "= 1")
    assert.equal("lacuna: a value\n",
      message "error(setmetatable({}, { __tostring = function() return 'a value' end }))")
    assert.equal("lacuna: error object is a table value\n", message "error {}")
  end)

  it("come with a traceback when asked for", function()
    local text = message("local function f() error 'oh' end\nf()", "--traceback")
    assert.truthy(text:find "^lacuna: recipe.lua:1: oh\nstack traceback:\n")
    assert.truthy(text:find("recipe.lua:2: in", 1, true))
  end)

  it("end with the status that os.exit is given", function()
    assert.equal(7, cli.recipe("os.exit(7)").status)
    assert.equal(7, cli.recipe("os.exit(7, true)").status)
  end)

  it("say what memory ran out", function()
    if os.getenv "ASAN_OPTIONS" then return pending "AddressSanitizer needs more address space than is left" end
    local result = cli.shell("ulimit -v 1000000; " .. cli.program ..
      " -e 't = {} for i = 1, 20 do t[i] = i .. (\"x\"):rep(1 << 28) end'")
    assert.same({ "lacuna: out of memory: try smaller batches, or lc.scope to free temporaries earlier\n", 1 },
      { result.err, result.status })
  end)
end)

describe("globals in a recipe", function()
  local function message(text)
    local result = cli.recipe(text)
    return (result.err:gsub(result.path, "recipe.lua"))
  end

  it("must exist to be read, and a near name is suggested", function()
    assert.equal("lacuna: recipe.lua:1: undeclared variable 'prnt' (did you mean 'print'?)\n", message "prnt(1)")
    assert.equal("lacuna: recipe.lua:2: undeclared variable 'modle' (did you mean 'model'?)\n",
      message "local model = 1\nreturn modle")
  end)

  it("are not made by assigning", function()
    assert.equal("lacuna: recipe.lua:1: assignment to undeclared variable 'x': write 'local' before it\n",
      message "x = 1")
    assert.equal("lacuna: recipe.lua:1: assignment to undeclared variable 'f': write 'local' before it\n",
      message "function f() end")
  end)

  it("may be replaced when they exist, and made in what a recipe requires", function()
    local directory = temporary()
    os.execute(("mkdir %s && echo 'made = 1 return undefined' >%s/loose.lua"):format(directory, directory))
    local result = cli.recipe(([[
      package.path = "%s/?.lua"
      require "loose"
      print(made)
      print = function(x) io.write("<", x, ">") end
      print(made)]]):format(directory))
    os.execute("rm -r " .. directory)
    assert.equal("", result.err)
    assert.equal("1\n<1>", result.out)
  end)
end)

describe("Ctrl-C", function()
  --- Runs a recipe and interrupts it once it has printed a line.
  local function interrupt(text, signals)
    local path = temporary()
    local file = assert(io.open(path, "w"))
    file:write(text)
    file:close()
    local fifo = path .. ".fifo"
    local result = cli.shell(([[
      mkfifo %s
      %s %s >%s & pid=$!
      read line <%s
      %s
      wait $pid]]):format(fifo, cli.program, path, fifo, fifo, signals or "kill -INT $pid"))
    os.remove(path)
    os.remove(fifo)
    return result
  end

  for name, body in pairs {
    ["a loop"] = "while true do end",
    ["a loop in a coroutine"] = "coroutine.wrap(function() while true do end end)()",
    ["a wait for input"] = "local f = io.popen 'sleep 1' f:read()",
  } do
    it("ends " .. name .. " with status 130", function()
      local result = interrupt("io.stdout:setvbuf 'no' print 'go' " .. body)
      assert.equal("lacuna: interrupted\n", result.err)
      assert.equal(130, result.status)
    end)
  end

  it("closes what is to be closed", function()
    local result = interrupt [[
      io.stdout:setvbuf "no"
      local guard <close> = setmetatable({}, { __close = function() io.stderr:write "closed\n" end })
      print "go"
      while true do end]]
    assert.equal("closed\nlacuna: interrupted\n", result.err)
  end)
end)

describe("a header that the build needs", function()
  it("is named with its package when it is missing, whatever options the compiler is given", function()
    local bare = cli.shell 'CC="gcc -nostdinc" sh .ci/packages.sh check'
    assert.equal(1, bare.status)
    assert.truthy(bare.err:find("missing lua5.4/lua.h: apt-get install liblua5.4-dev\n", 1, true))
    local whole = cli.shell 'CC="gcc -O1" sh .ci/packages.sh check'
    assert.same({ "", 0 }, { whole.err, whole.status })
    assert.equal("missing a C compiler: apt-get install gcc\n", cli.shell("CC=no-such-cc sh .ci/packages.sh check").err)
  end)
end)
