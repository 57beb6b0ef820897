//! Plots: bars of each group's rows, scaled to the best engine of the row, and the seconds of the steady workload.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::Results;
use super::rows::{GROUPS, Group, STEADY, Workload};

const BAR_HEIGHT: u32 = 13;
const GAP: u32 = 26;
const LEFT: i32 = 330;
const RIGHT: i32 = 110;
const TOP: i32 = 40;
const WIDTH: u32 = 1000;
const LINES_SIZE: (u32, u32) = (1000, 420);

/// One colour an engine, in the order of the tables; dark enough on white, and told apart without hue.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 82, 155),
    RGBColor(230, 126, 34),
    RGBColor(46, 139, 87),
    RGBColor(190, 60, 60),
    RGBColor(130, 90, 170),
    RGBColor(140, 110, 80),
    RGBColor(90, 90, 90),
    RGBColor(200, 170, 40),
];

/// Writes the plots. Each group's title with the name of its file.
pub(super) fn write(results: &Results, folder: &Path) -> Result<Vec<(&'static str, String)>> {
    let mut plots = Vec::new();
    for group in GROUPS {
        let Some(name) = group.plot else { continue };
        let rows = figures(results, group);
        if rows.is_empty() {
            continue;
        }
        let file = format!("{name}.svg");
        bars(group, &rows, &folder.join(&file)).map_err(|error| anyhow!("{file}: {error}"))?;
        plots.push((group.title, file));
    }
    if results.engines().iter().any(|engine| results.seconds(STEADY, engine).is_some()) {
        let file = "steady.svg".to_owned();
        seconds(results, &folder.join(&file)).map_err(|error| anyhow!("{file}: {error}"))?;
        let is_steady = |group: &&Group| group.rows.iter().any(|row| row.id == STEADY);
        plots.extend(GROUPS.iter().find(is_steady).map(|group| (group.title, file)));
    }
    Ok(plots)
}

/// A row's figures: of each engine that has one, with its place among the engines.
type Figures<'r> = (&'r Workload, Vec<(usize, &'static str, f64)>);

fn figures<'r>(results: &Results, group: &'r Group) -> Vec<Figures<'r>> {
    let engines = results.engines();
    let of = |row: &'r Workload| -> Figures<'r> {
        let figures = (0..).zip(&engines);
        let figure = |(place, engine): (usize, &&'static str)| {
            Some((place, *engine, results.figure(row, engine)?))
        };
        (row, figures.filter_map(figure).collect())
    };
    group.rows.iter().map(of).filter(|(_, figures)| !figures.is_empty()).collect()
}

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

/// Horizontal bars, longest the largest figure of the row.
fn bars<'a>(group: &Group, rows: &[Figures<'_>], path: &'a Path) -> Drawn<'a> {
    let bars: usize = rows.iter().map(|(_, figures)| figures.len()).sum();
    let height = TOP as u32 + bars as u32 * BAR_HEIGHT + rows.len() as u32 * GAP;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let title = ("sans-serif", 17).into_font().color(&BLACK);
    area.draw_text(group.title, &title, (10, 10))?;
    let label = ("sans-serif", 13).into_font().color(&BLACK);
    let small = ("sans-serif", 11).into_font().color(&BLACK);
    let mut y = TOP;
    for (row, figures) in rows {
        let largest =
            figures.iter().map(|&(_, _, figure)| figure).fold(f64::MIN_POSITIVE, f64::max);
        let direction = if row.is_more_better { "" } else { " (less is better)" };
        area.draw_text(&format!("{}{direction}", row.title), &label, (10, y))?;
        for &(place, engine, figure) in figures {
            let length = figure / largest * f64::from(WIDTH as i32 - LEFT - RIGHT);
            let end = LEFT + (length as i32).max(1);
            let bar = [(LEFT, y + 1), (end, y + BAR_HEIGHT as i32 - 1)];
            area.draw(&Rectangle::new(bar, COLOURS[place % COLOURS.len()].filled()))?;
            area.draw_text(engine, &small, (LEFT - 62, y + 1))?;
            area.draw_text(&row.unit.show(figure), &small, (end + 5, y + 1))?;
            y += BAR_HEIGHT as i32;
        }
        y += GAP as i32;
    }
    area.present()
}

/// Operations a second, over the time of the run.
fn seconds<'a>(results: &Results, path: &'a Path) -> Drawn<'a> {
    let engines = results.engines();
    let series: Vec<_> = (0..)
        .zip(&engines)
        .filter_map(|(place, engine)| Some((place, *engine, results.seconds(STEADY, engine)?)))
        .collect();
    let longest = series.iter().map(|(_, _, seconds)| seconds.len()).max().unwrap_or(1);
    let highest = series.iter().flat_map(|(_, _, s)| s.iter().copied()).fold(1.0, f64::max);
    let area = SVGBackend::new(path, LINES_SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Durable puts a second, 8 threads", ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..longest as f64 / 10.0, 0.0..highest * 1.05)?;
    chart.configure_mesh().x_desc("second").y_desc("puts/s").light_line_style(WHITE).draw()?;
    for (place, engine, seconds) in series {
        let colour = COLOURS[place % COLOURS.len()];
        let points = seconds.iter().enumerate().map(|(tenth, &rate)| (tenth as f64 / 10.0, rate));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(engine)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
    area.present()
}
