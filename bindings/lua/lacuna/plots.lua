--- run:plot and run:table: what was logged, as a picture and as text.

local errors = require "lacuna.errors"
local files = require "lacuna.core.files"

local plots = {}

local COLORS = { "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#555555" }

local SCALES = { linear = true, log = true, logx = true, loglog = true }

-- -- choosing rows ----------------------------------------------------------------------------------------------------

--- Rows that `where` chooses: nil for all, a table of values that they must have, or a function.
local function chosen(run, where)
  local list = {}
  if type(where) ~= "function" then errors.expect("run", "where", where, "table", true) end
  for _, row in ipairs(run:rows()) do
    local take = true
    if type(where) == "function" then
      take = where(row)
    else
      for name, value in pairs(where or {}) do take = take and row[name] == value end
    end
    if take then list[#list + 1] = row end
  end
  return list
end

--- Whether a value can be drawn: a number, and a positive one on a logarithmic axis.
local function is_drawn(value, logarithmic)
  return type(value) == "number" and (value > 0 or not logarithmic)
end

--- Curves: one for each y, and for each value of `by`. A row without numbers for x and y is left out.
local function curves(rows, opts, ys)
  local log_x, log_y = opts.scale == "logx" or opts.scale == "loglog", opts.scale == "log" or opts.scale == "loglog"
  local list, found = {}, {}
  for _, y in ipairs(ys) do
    for _, row in ipairs(rows) do
      local group = opts.by and row[opts.by]
      if is_drawn(row[opts.x], log_x) and is_drawn(row[y], log_y) and (not opts.by or group ~= nil) then
        local title = not opts.by and y or #ys == 1 and tostring(group) or ("%s, %s"):format(tostring(group), y)
        local curve = found[title]
        if not curve then
          curve = { title = title }
          found[title], list[#list + 1] = curve, curve
        end
        curve[#curve + 1] = { row[opts.x], row[y] }
      end
    end
  end
  for _, curve in ipairs(list) do
    for i, point in ipairs(curve) do point.order = i end
    table.sort(curve, function(a, b) return a[1] < b[1] or a[1] == b[1] and a.order < b.order end)
  end
  return list
end

-- -- gnuplot ----------------------------------------------------------------------------------------------------------

local function quoted(text) return "'" .. text:gsub("_", " "):gsub("'", "''") .. "'" end

--- The smallest and the largest number of a coordinate.
local function range(list, coordinate)
  local low, high = math.huge, -math.huge
  for _, curve in ipairs(list) do
    for _, point in ipairs(curve) do
      low, high = math.min(low, point[coordinate]), math.max(high, point[coordinate])
    end
  end
  return low, high
end

--- Where a logarithmic axis has its marks: at 1, 2 and 5 times the powers of ten, or, where fewer than three of those
-- lie between the numbers, at equal steps.
local function log_tics(list, coordinate)
  local low, high = range(list, coordinate)
  local first, last = math.floor(math.log(low, 10)), math.ceil(math.log(high, 10))
  local marks, inside = {}, 0
  for exponent = first, last do
    for _, digit in ipairs(last - first > 5 and { 1 } or { 1, 2, 5 }) do
      local mark = digit * 10.0 ^ exponent
      marks[#marks + 1] = ("%.10g"):format(mark)
      if mark >= low and mark <= high then inside = inside + 1 end
    end
  end
  if inside < 3 and high > low then
    local step = 10.0 ^ math.floor(math.log(high - low, 10))
    if (high - low) / step < 3 then step = step / 2 end
    marks = {}
    for i = math.floor(low / step), math.ceil(high / step) do marks[#marks + 1] = ("%.10g"):format(i * step) end
  end
  return "(" .. table.concat(marks, ", ") .. ")"
end

--- The script: data, axes, one line with points for each curve.
local function script(list, opts, ys, picture)
  local lines = {
    "set terminal pngcairo size 1200,720 fontscale 1.25 linewidth 1.5 background '#FFFFFF' noenhanced",
    "set output '" .. picture:gsub("'", "''") .. "'",
    "set lmargin 11", "set rmargin 4", "set border 3 linecolor '#666666'", "set tics nomirror textcolor '#333333'",
    "set grid linecolor '#DDDDDD' linetype 1",
    "set autoscale fix", "set offsets graph 0.03, graph 0.03, graph 0.06, graph 0.06",
    "set key " .. (#list > 1 and "above left horizontal reverse Left samplen 2" or "off"),
    "set xlabel " .. quoted(opts.x), "set ylabel " .. quoted(opts.label or table.concat(ys, ", ")),
  }
  if opts.scale == "log" or opts.scale == "loglog" then
    lines[#lines + 1] = "set logscale y; set ytics " .. log_tics(list, 2)
  end
  if opts.scale == "logx" or opts.scale == "loglog" then
    lines[#lines + 1] = "set logscale x; set xtics " .. log_tics(list, 1)
  end
  local parts = {}
  for i, curve in ipairs(list) do
    lines[#lines + 1] = ("$curve%d << EOD"):format(i)
    for _, point in ipairs(curve) do lines[#lines + 1] = ("%.17g %.17g"):format(point[1], point[2]) end
    lines[#lines + 1] = "EOD"
    local style, color = #curve > 40 and "lines" or "linespoints", COLORS[(i - 1) % #COLORS + 1]
    parts[i] = ("$curve%d using 1:2 with %s linewidth 2 linecolor '%s' pointtype %d pointsize 1.4 title %s"):format(i,
      style, color, i % 2 == 1 and 7 or 5, quoted(curve.title))
  end
  lines[#lines + 1] = "plot " .. table.concat(parts, ", ")
  return table.concat(lines, "\n") .. "\n"
end

local function shell_quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

--- Draws logged numbers as a PNG in the run's directory, beside the gnuplot script that made it.
---@param opts table {x, y = name or list of names, by = name: a curve for each of its values, where = {name = value} or
-- function(row), scale = "linear", "log" (y), "logx" or "loglog", label = of the y axis, default the names of y, file}
---@return string|nil path nil where gnuplot is missing; the script is written all the same
function plots.plot(run, opts)
  errors.receiver("run:plot", run, "run")
  errors.check_options("run:plot", opts, { "x", "y", "by", "where", "scale", "label", "file" })
  local ys = type(opts.y) == "table" and opts.y or { opts.y }
  if type(opts.x) ~= "string" or #ys == 0 then
    errors.fail 'run:plot: give x and y, as in run:plot { x = "sparsity", y = "perplexity" }'
  end
  for _, y in ipairs(ys) do errors.expect("run:plot", "each y", y, "string") end
  errors.expect("run:plot", "file", opts.file, "string", true)
  errors.expect("run:plot", "label", opts.label, "string", true)
  errors.expect("run:plot", "by", opts.by, "string", true)
  if opts.scale ~= nil and not SCALES[opts.scale] then
    errors.fail("run:plot: scale must be 'linear', 'log', 'logx' or 'loglog', got '%s'", tostring(opts.scale))
  end
  local list = curves(chosen(run, opts.where), opts, ys)
  if #list == 0 then
    errors.fail("run:plot: no logged line has numbers for '%s' and '%s'%s", opts.x, table.concat(ys, "' or '"),
      (opts.scale or "linear") ~= "linear" and ", positive where the axis is logarithmic" or "")
  end
  local base = (opts.file or ("%s-by-%s"):format(table.concat(ys, "-"), opts.x)):gsub("%.png$", "")
  local picture, source = run.dir .. "/" .. base .. ".png", run.dir .. "/" .. base .. ".gnuplot"
  files.write(source, script(list, opts, ys, picture))
  local pipe = io.popen("gnuplot " .. shell_quoted(source) .. " 2>&1")
  local said = pipe and pipe:read "a":match "^%s*(.-)%s*$" or ""
  if pipe and pipe:close() then return picture end
  io.stderr:write(("run:plot: no picture: %s; the script is %s\n"):format(
    said:find "not found" and "gnuplot is missing (apt-get install gnuplot-nox)" or "gnuplot said: " .. said, source))
  return nil
end

-- -- tables -----------------------------------------------------------------------------------------------------------

local function cell(value)
  if value == nil then return "" end
  if math.type(value) == "float" then return ("%.6g"):format(value) end
  return tostring(value)
end

local function exact(value) return value == nil and "" or tostring(value) end

local function columns_of(rows)
  local seen, list = {}, {}
  for _, row in ipairs(rows) do
    for name, value in pairs(row) do
      if not seen[name] and type(value) ~= "table" then seen[name], list[#list + 1] = true, name end
    end
  end
  table.sort(list)
  return list
end

--- Lines of cells, each column as wide as its widest.
local function aligned(cells)
  local widths, lines = {}, {}
  for _, line in ipairs(cells) do
    for i, text in ipairs(line) do widths[i] = math.max(widths[i] or 0, #text) end
  end
  for k, line in ipairs(cells) do
    local parts = {}
    for i, text in ipairs(line) do parts[i] = (" "):rep(widths[i] - #text) .. text end
    lines[k] = (table.concat(parts, "  "):gsub("%s+$", ""))
  end
  return table.concat(lines, "\n") .. "\n"
end

--- The same separated by commas (RFC 4180).
local function comma_separated(cells)
  local lines = {}
  for k, line in ipairs(cells) do
    local parts = {}
    for i, text in ipairs(line) do parts[i] = text:find '[,"\r\n]' and '"' .. text:gsub('"', '""') .. '"' or text end
    lines[k] = table.concat(parts, ",")
  end
  return table.concat(lines, "\n") .. "\n"
end

--- Columns' names, then what `show` makes of the rows that have the first of them, or of all rows.
local function cells_of(rows, columns, all, show)
  local cells = { columns }
  for _, row in ipairs(rows) do
    local line = {}
    for i, name in ipairs(columns) do line[i] = show(row[name]) end
    if all or row[columns[1]] ~= nil then cells[#cells + 1] = line end
  end
  return cells
end

--- Prints logged lines as a table, and stores it in the run's directory.
---@param opts table|nil {columns = list of names, default all; only rows that have the first are shown; where = as
-- in run:plot; file = "table.txt"; one that ends in .csv is stored separated by commas}
---@return string text what was stored
function plots.table(run, opts)
  errors.receiver("run:table", run, "run")
  opts = opts or {}
  errors.check_options("run:table", opts, { "columns", "where", "file" })
  local rows = chosen(run, opts.where)
  errors.expect("run:table", "columns", opts.columns, "table", true)
  errors.expect("run:table", "file", opts.file, "string", true)
  local columns = opts.columns or columns_of(rows)
  for _, name in ipairs(columns) do errors.expect("run:table", "each column", name, "string") end
  local file = opts.file or "table.txt"
  local text = aligned(cells_of(rows, columns, not opts.columns, cell))
  io.write(text)
  if file:find "%.csv$" then text = comma_separated(cells_of(rows, columns, not opts.columns, exact)) end
  run:text(file, text)
  return text
end

return plots
