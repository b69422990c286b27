//! Arguments to command to exit code; nothing else.

use std::{
    fmt::Display,
    io::{IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use exporter_toolkit::{Inherited, WebConfig, files, settings::Problems};
use koodrive_exporter::{
    app::{self, App, RunError, Signals},
    check::{self, Online},
    cli::{self, Cli, Command, Options, OutputForm},
    clock::{Moment, WallClock},
    config::{Config, Listening, Setting, Sources},
    demo,
    healthcheck::{self, Target},
    logging,
    metrics::Exposition,
};
use tokio::signal::unix::{SignalKind, signal};

/// Gives the memory of large pages back to the system soon after they are gone, which that of glibc does not.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The names of standard output, which is written to where it stands.
const STANDARD_OUTPUT: [&str; 4] = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// Its number on Linux, on x86, ARM and most others.
const SIGXFSZ: i32 = 25;

const RUN_TIME_FAILURE: u8 = 1;
const BAD_CONFIGURATION: u8 = 3;
const FAILED_POLL: u8 = 4;

fn main() -> ExitCode {
    start().err().unwrap_or(ExitCode::SUCCESS)
}

fn start() -> Result<(), ExitCode> {
    let Cli { command, options } = Cli::given().map_err(usage)?;
    let inherited = Inherited::from_environment().map_err(failed)?;
    // Until there is a log. A runtime that gets too few threads panics, and would wait for those that it has.
    logging::on_panic(|location| {
        logging::last_word(&format!("panic at {location}: the system has no more threads, or this is a bug"));
        std::process::exit(RUN_TIME_FAILURE.into());
    });
    let runtime = app::runtime(&mut tokio::runtime::Builder::new_multi_thread()).map_err(failed)?;
    let done = runtime.block_on(async {
        // Without a handler, a write beyond a limit on files' sizes ends the process instead of failing.
        let _failing_writes = signal(SignalKind::from_raw(SIGXFSZ));
        match command {
            None => run(&options, inherited).await,
            Some(Command::Check(check)) if check.online => check_online(&options, &check).await,
            Some(Command::Check(check)) => explain(&options, check.strict),
            Some(Command::Once(once)) => write_once(&options, &once).await,
            Some(Command::Healthcheck(health)) => check_health(&options, health.url).await,
            Some(Command::Demo) => demo::demo(options.overrides, inherited).await.map_err(run_error),
            Some(Command::Simulate(simulate)) => demo::simulate(&simulate).await.map_err(run_error),
        }
    });
    // A secret file on a hung mount must not hold up the end.
    runtime.shutdown_background();
    done
}

/// Prints the configuration.
fn explain(options: &Options, strict: bool) -> Result<(), ExitCode> {
    let Checked { settings, warnings, .. } = checked(options, strict)?;
    let printed = print(&format!("{}\nthe configuration is valid", check::settings(&settings)));
    warn(&warnings);
    printed
}

/// A configuration with which all is well.
struct Checked {
    config: Config,
    settings: Vec<Setting>,
    /// They are shown at the end where they are no errors.
    warnings: Vec<String>,
}

fn checked(options: &Options, strict: bool) -> Result<Checked, ExitCode> {
    let sources = sources(options);
    let (config, settings) = Config::explain(&sources).map_err(invalid)?;
    let web_config = config.web.options.web_config.as_ref();
    web_config.map_or(Ok(()), WebConfig::verify).map_err(invalid)?;
    let warnings = check::warnings(&config, &settings, sources.file(), WallClock::system().now());
    if strict && !warnings.is_empty() {
        warn(&warnings);
        return Err(BAD_CONFIGURATION.into());
    }
    Ok(Checked { config, settings, warnings })
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        logging::last_word(&format!("warning: {warning}"));
    }
}

async fn check_online(options: &Options, arguments: &cli::Check) -> Result<(), ExitCode> {
    let Checked { config, warnings, .. } = checked(options, arguments.strict)?;
    let (found, now) = poll_once(Online::configuration(&config)).await?;
    let online = Online::new(&found.store, &config.accounts, now);
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let printed = match arguments.output {
        OutputForm::Json => print(online.json().trim_end()),
        OutputForm::Table if arguments.verbose => print(&format!("{}\n{}", online.table(colours), online.details())),
        OutputForm::Table => print(online.table(colours).trim_end()),
    };
    match warnings.len() {
        0 => {}
        _ if arguments.verbose => warn(&warnings),
        // The table is to stand alone.
        count => {
            logging::last_word(&format!("warnings on the configuration: {count}; check without --online shows them"));
        }
    }
    printed?;
    polled(online.all_good())
}

async fn run(options: &Options, inherited: Option<Inherited>) -> Result<(), ExitCode> {
    let signals = Signals::listen().map_err(failed)?;
    let sources = sources(options);
    let content = sources.file_content();
    let app = App::new(load(&sources)?).map_err(run_error)?;
    app.run(signals, sources, content, inherited, |_| {}).await.map_err(run_error)
}

async fn write_once(options: &Options, arguments: &cli::Once) -> Result<(), ExitCode> {
    let (found, now) = poll_once(load(&sources(options))?).await?;
    let text = found.text(arguments.include_exporter_metrics, now);
    let written = match arguments.output.as_deref() {
        Some(path) if !STANDARD_OUTPUT.iter().any(|name| path == Path::new(name)) => files::replace(path, &text),
        _ => std::io::stdout().write_all(&text),
    };
    written.map_err(failed)?;
    polled(found.store.all_up())
}

async fn poll_once(config: Config) -> Result<(Exposition, Moment), ExitCode> {
    let app = App::new(config).map_err(run_error)?;
    app.once().await.map_err(run_error)
}

fn polled(all_good: bool) -> Result<(), ExitCode> {
    if all_good { Ok(()) } else { Err(FAILED_POLL.into()) }
}

/// Asks where the configuration has the exporter listen, unless a URL is given.
async fn check_health(options: &Options, url: Option<String>) -> Result<(), ExitCode> {
    let unknown = |problems: Problems| {
        fail(BAD_CONFIGURATION, format!("cannot find where the exporter listens, give --url:\n{problems}"))
    };
    let target = match url {
        Some(url) => Target::of_url(url),
        None => Target::of(&Listening::load(&sources(options)).map_err(unknown)?),
    };
    healthcheck::ask(&target).await.map_err(failed)
}

fn sources(options: &Options) -> Sources {
    Sources::of_process(options.config_file.clone(), options.overrides.clone())
}

fn load(sources: &Sources) -> Result<Config, ExitCode> {
    Config::load(sources).map_err(invalid)
}

/// What may pass by itself does not keep a service manager from starting the exporter again.
fn invalid(problems: Problems) -> ExitCode {
    fail(if problems.may_pass() { RUN_TIME_FAILURE } else { BAD_CONFIGURATION }, problems)
}

fn run_error(error: RunError) -> ExitCode {
    let is_configured = matches!(
        error,
        RunError::Transport(_) | RunError::Config(_) | RunError::Serve(exporter_toolkit::Error::WebConfig(_))
    );
    fail(if is_configured { BAD_CONFIGURATION } else { RUN_TIME_FAILURE }, error)
}

fn print(message: &str) -> Result<(), ExitCode> {
    writeln!(std::io::stdout(), "{message}").map_err(failed)
}

/// Prints what is wrong with the command line, or the help that it asks for.
fn usage(error: clap::Error) -> ExitCode {
    let code = u8::try_from(error.exit_code()).unwrap_or(RUN_TIME_FAILURE);
    if error.use_stderr() {
        logging::within_a_second(move || error.print());
    } else {
        // A reader who stops reading has seen enough.
        let _ = error.print();
    }
    code.into()
}

fn failed(error: impl Display) -> ExitCode {
    fail(RUN_TIME_FAILURE, error)
}

fn fail(code: u8, error: impl Display) -> ExitCode {
    logging::last_word(&error.to_string());
    code.into()
}
