//! A transfer between accounts: all of it or nothing, run again when it conflicts with another one.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::thread;

use seawall::{Database, Error, Result, Transaction, Tree};

const ACCOUNTS: u64 = 10;
const OPENING_BALANCE: u64 = 100;

fn balance(transaction: &Transaction, accounts: &Tree, id: u64) -> Result<u64> {
    let value = transaction.get(accounts, id.to_be_bytes())?;
    let value = value.ok_or(Error::NotFound { what: format!("account {id}") })?;
    Ok(u64::from_be_bytes(value.as_ref().try_into().expect("balances have eight bytes")))
}

fn transfer(database: &Database, accounts: &Tree, from: u64, to: u64, sum: u64) -> Result<bool> {
    database.transact(|transaction| {
        let (source, target) =
            (balance(transaction, accounts, from)?, balance(transaction, accounts, to)?);
        if from == to || source < sum {
            return Ok(false);
        }
        transaction.insert(accounts, from.to_be_bytes(), (source - sum).to_be_bytes())?;
        transaction.insert(accounts, to.to_be_bytes(), (target + sum).to_be_bytes())?;
        Ok(true)
    })
}

fn main() -> Result<()> {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let database = Database::open(parent.path().join("db"))?;
    let accounts = database.tree("accounts")?;
    for id in 0..ACCOUNTS {
        accounts.insert(id.to_be_bytes(), OPENING_BALANCE.to_be_bytes())?;
    }

    thread::scope(|scope| {
        for worker in 0..4_u64 {
            let (database, accounts) = (&database, &accounts);
            scope.spawn(move || {
                for step in 0..100 {
                    let from = (step * 7 + worker) % ACCOUNTS;
                    let to = (step * 3 + worker * 5) % ACCOUNTS;
                    transfer(database, accounts, from, to, 1 + step % 9).expect("a transfer");
                }
            });
        }
    });

    let snapshot = database.snapshot()?;
    let mut total = 0;
    for pair in snapshot.range(&accounts, ..)? {
        let (_, value) = pair?;
        total += u64::from_be_bytes(value.as_ref().try_into().expect("eight bytes"));
    }
    assert_eq!(total, ACCOUNTS * OPENING_BALANCE);
    println!(
        "400 transfers by 4 threads, {} conflicts; the total is still {total}",
        database.stats().conflicts
    );
    database.close()
}
