--- Error messages of the Lua half: the line of the user's own code in front, and a suggestion for a name that does not
-- exist.

local errors = {}

--- Where the user's code called into the library: the first frame that is neither C nor one of the library's own files.
local function user_position()
  local level = 2
  while true do
    local info = debug.getinfo(level, "Sl")
    if not info then return "" end
    if info.what ~= "C" and not info.short_src:find("^lacuna/") and info.currentline > 0 then
      return ("%s:%d: "):format(info.short_src, info.currentline)
    end
    level = level + 1
  end
end

--- Raises a message with the user's file and line in front.
---@param format string as for string.format
function errors.fail(format, ...)
  error(user_position() .. format:format(...), 0)
end

--- What a value is, for messages: "nil", "a number", "a model".
---@param value any
---@return string
function errors.kind(value)
  if value == nil then return "nil" end
  local metatable = getmetatable(value)
  local name = type(metatable) == "table" and rawget(metatable, "__name")
  return "a " .. (type(name) == "string" and name:match "[^.]*$" or type(value))
end

--- Refuses a value that is not of the kind; `or_nil` lets nil pass.
---@param where string begins the message: "run:save"
---@param what string what is checked: "the model"
---@param value any
---@param kind string a type of Lua's or the engine's: "table", "model"
---@param or_nil boolean|nil
function errors.expect(where, what, value, kind, or_nil)
  local got = errors.kind(value)
  if got == "a " .. kind or or_nil and value == nil then return end
  errors.fail("%s: %s must be a %s, got %s", where, what, kind, got)
end

--- Refuses what a method is called on when it is of another kind, as with a dot for the colon.
---@param method string "run:log"
---@param value any
---@param kind string "run"
function errors.receiver(method, value, kind)
  local got = errors.kind(value)
  if got ~= "a " .. kind then errors.fail("%s: expected a %s before the colon, got %s", method, kind, got) end
  if kind == "run" and value.closed then errors.fail("%s: the run '%s' is closed", method, value.name) end
end

--- Number of single-letter edits (insert, delete, replace, swap of neighbours) from `a` to `b`.
---@param a string
---@param b string
---@return integer
function errors.distance(a, b)
  local before, previous = nil, {}
  for j = 0, #b do previous[j] = j end
  for i = 1, #a do
    local row = { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      row[j] = math.min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (same and 0 or 1))
      if before and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], before[j - 2] + 1)
      end
    end
    before, previous = previous, row
  end
  return previous[#b]
end

--- The candidate nearest to `word`, or nil when none is near enough to be a slip of the keys.
---@param word string
---@param candidates string[]
---@return string|nil
function errors.nearest(word, candidates)
  local best, best_distance = nil, math.min(math.max(1, #word // 3), #word - 1) + 1
  for _, candidate in ipairs(candidates) do
    local distance = errors.distance(word, candidate)
    if distance < best_distance or (distance == best_distance and best and candidate < best) then
      best, best_distance = candidate, distance
    end
  end
  return best
end

--- " (did you mean 'x'?)", or "" when nothing is near.
---@param word string
---@param candidates string[]
---@return string
function errors.suggestion(word, candidates)
  local near = errors.nearest(word, candidates)
  return near and (" (did you mean '%s'?)"):format(near) or ""
end

--- "a model has no 'blcoks' (did you mean 'blocks'?)"; where no name is near, the names that there are, if few.
---@param what string
---@param name string
---@param names string[]
---@return string
function errors.no_field(what, name, names)
  local text = ("%s has no '%s'"):format(what, name)
  if errors.nearest(name, names) then return text .. errors.suggestion(name, names) end
  if #names == 0 or #names > 30 then return text end
  table.sort(names)
  return ("%s; it has %s"):format(text, table.concat(names, ", "))
end

--- Refuses what is no table of options, or has a name that is none of them.
---@param where string begins the message: "run:plot"
---@param opts any
---@param known string[]
function errors.check_options(where, opts, known)
  if type(opts) ~= "table" then errors.fail("%s: expected a table of options, got %s", where, errors.kind(opts)) end
  local is_known = {}
  for _, name in ipairs(known) do is_known[name] = true end
  for name in pairs(opts) do
    if not is_known[name] then
      errors.fail("%s: unknown option '%s'%s", where, tostring(name), errors.suggestion(tostring(name), known))
    end
  end
end

--- Whether every error is described with a traceback (--traceback).
errors.always_trace = false

--- For xpcall: the error as text. A traceback is added when the library itself is at fault: the message then begins
-- with one of its own files.
---@param problem any
---@return string
function errors.describe(problem)
  if type(problem) ~= "string" then
    local meta = getmetatable(problem)
    if not (meta and meta.__tostring) then return ("error object is a %s value"):format(type(problem)) end
    return tostring(problem)
  end
  local internal = problem:find "^lacuna/"
  if problem ~= "interrupted" and (internal or errors.always_trace) then return debug.traceback(problem, 2) end
  return problem
end

--- The line to print for an error that xpcall gave; Lua's own allocation failure says what to try.
---@param problem string
---@return string
function errors.summary(problem)
  if problem == "not enough memory" then
    return "out of memory: try smaller batches, or lc.scope to free temporaries earlier"
  end
  return problem
end

return errors
